-- The parameters of a completion.

local errors = require('copilot_broker.errors')
local limits = require('copilot_broker.limits')

local USAGE = errors.ErrorClass.USAGE

local M = {}

M.COMPLETION = {
  options = { 'path', 'account', 'headers', 'timeout' },
  defaults = { path = '/chat/completions' },
}

--- A body as text: a string is sent byte for byte, a table as JSON: `text, err`.
local function body_of(body)
  if type(body) == 'table' then
    local good, text = pcall(vim.json.encode, body)
    body = good and text or nil
  end
  if type(body) ~= 'string' then
    local message = 'a body is text or a table that JSON can say'
    return nil, errors.failure(USAGE, 'bad_body', message, 'Change the request')
  elseif #body > limits.MAX_BODY then
    local message = ('a body has at most %d bytes, this one %d'):format(limits.MAX_BODY, #body)
    return nil, errors.failure(USAGE, 'body_too_large', message, 'Shorten the prompt')
  end
  return body
end

--- Put the body into `params`, take the timeout out: `timeout, err`.
function M.complete_params(params, body)
  local timeout, err = params.timeout, nil
  params.timeout = nil
  params.body, err = body_of(body)
  if params.headers and next(params.headers) == nil then
    params.headers = nil -- Lua's empty table would travel as a list
  end
  return timeout, err
end

return M
