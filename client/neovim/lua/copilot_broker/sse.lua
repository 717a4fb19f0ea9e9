-- Server-sent events (the HTML standard, "Interpreting an event stream"), as upstream sends them:
-- one JSON object an event, and [DONE] at last. An answer in one piece of JSON is one event.

local errors = require('copilot_broker.errors')
local limits = require('copilot_broker.limits')
local values = require('copilot_broker.values')

local function unreadable(code, message)
  return errors.failure(errors.ErrorClass.INTERNAL, code, message, errors.LOOK_HINT)
end

local Reader = {}
Reader.__index = Reader

function Reader.new(headers)
  local kind = (headers['content-type'] or ''):match('^[^;]*'):gsub('%s', ''):lower()
  return setmetatable({
    whole = kind == 'application/json',
    rest = '', -- of the last chunk, that ends no line yet
    data = {}, -- lines of the event that has begun
    held = 0, -- bytes of them
    first = true, -- no line was read yet
    done = false, -- [DONE] has come
  }, Reader)
end

--- Take a chunk (nil at the end); return the objects that it completes, or `nil, err`.
function Reader:take(chunk)
  local found, err = {}, nil
  if self.whole then
    self.rest = self.rest .. (chunk or '')
    err = not chunk and self:take_payload(found, self.rest) or nil
  else
    err = self:take_lines(found, self.rest .. (chunk or '\n\n'), chunk == nil)
  end
  if err then
    return nil, err
  end
  return found
end

function Reader:take_lines(found, text, at_end)
  local start = 1
  while true do
    local at = text:find('[\r\n]', start)
    -- a CR at the very end may be half of a CR LF
    if not at or (not at_end and at == #text and text:sub(at, at) == '\r') then
      break
    end
    local err = self:take_line(found, text:sub(start, at - 1))
    if err then
      return err
    end
    start = at + (text:sub(at, at + 1) == '\r\n' and 2 or 1)
  end
  self.rest = text:sub(start)
  if #self.rest + self.held > limits.MAX_FRAME then
    return unreadable('event_too_long', ('one event has more than %d bytes'):format(limits.MAX_FRAME))
  end
end

function Reader:take_line(found, line)
  if self.first then
    line, self.first = line:gsub('^\xef\xbb\xbf', ''), false
  end
  if line == '' then
    local data = self.data
    self.data, self.held = {}, 0
    return self:take_payload(found, table.concat(data, '\n'))
  end
  local name, value = line:match('^([^:]*):? ?(.*)$')
  if name == 'data' then
    table.insert(self.data, value)
    self.held = self.held + #value
  end
end

function Reader:take_payload(found, payload)
  local text = vim.trim(payload)
  if self.done or text == '[DONE]' then
    self.done = true
  elseif text ~= '' then
    local good, value = pcall(vim.json.decode, text)
    if not good then
      return unreadable('bad_event', 'an event of the answer is not JSON')
    elseif values.is_map(value) then
      table.insert(found, value)
    end
  end
end

return Reader
