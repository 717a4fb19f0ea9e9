-- A whole answer, or the head of one that comes in pieces. Any status is an answer; its body is
-- never shown.

local errors = require('copilot_broker.errors')
local masked = require('copilot_broker.masked')
local refusals = require('copilot_broker.refusals')
local text = require('copilot_broker.text')
local values = require('copilot_broker.values')

local M = {}

--- Status, headers, account, ok and refusal, which is there unless it is ok: `head, err`.
function M.head_of(result)
  local status, headers = result.status, values.given(result.headers) or {}
  if not values.is_count(status) or type(headers) ~= 'table' then
    return nil, errors.lacking('completion')
  end
  local ok = status >= 200 and status < 300
  local said = values.given(result.refusal)
  local refusal = nil
  if said ~= nil then
    refusal = refusals.refusal_of(said, status)
  elseif not ok then
    refusal = refusals.unexplained(status)
  end
  local account = values.text_or(result.account, headers['x-copilot-broker-account'] or '')
  return { status = status, headers = headers, account = account, refusal = refusal, ok = ok }
end

local Completion = {}

--- The refusal, or nil: what the Python client raises.
function Completion:raise_for_status()
  return self.refusal
end

--- The body as JSON tells it: `value, err`.
function Completion:json()
  local good, value = pcall(vim.json.decode, self.body)
  if good then
    return value
  end
  local message = "upstream's answer is not JSON"
  return nil, errors.failure(errors.ErrorClass.INTERNAL, 'not_json', message, errors.LOOK_HINT)
end

--- The first choice's text, '' when it has none; `nil, err` where there is no completion.
function Completion:text()
  local err, found = self.refusal, nil
  if not err then
    found, err = self:json()
  end
  if err then
    return nil, err
  elseif not values.is_map(found) then
    return ''
  elseif text.is_error(found) then
    return nil, refusals.broken_off(self.status)
  end
  return text.text_in(found)
end

--- The completion in an answer to completion.create: `completion, err`.
function M.completion_from(result)
  if type(result) ~= 'table' or type(result.body) ~= 'string' then
    return nil, errors.lacking('completion')
  end
  local head, err = M.head_of(result)
  if err then
    return nil, err
  end
  local name = ('Completion(status=%d account=%s)'):format(head.status, head.account)
  local kept = { body = result.body, headers = head.headers }
  head.headers = nil
  return masked(head, kept, name, Completion)
end

return M
