-- A stream, on a connection of its own; closing it cuts upstream at once.

local run = require('copilot_broker.waiting').run
local taking = require('copilot_broker.taking')

local Stream = {}
Stream.__index = Stream

--- A stream that has begun; `head` is a completion's, nil for others.
function Stream.new(link, id, head)
  local stream = { link = link, id = id, used = 0, closed = false }
  return setmetatable(vim.tbl_extend('force', stream, head or {}), Stream)
end

function Stream.__tostring(stream)
  if not stream.status then
    return 'Stream()'
  end
  return ('CompletionStream(status=%d account=%s)'):format(stream.status, stream.account)
end

--- Stop it. Twice is no error.
function Stream:close()
  if not self.closed then
    self.closed = true
    self.link:notify('stream.cancel', { stream = self.id })
    self.link:close()
  end
end

--- Have `on_item(item)` called for each of the `chunks`, `events` or pieces of `text` as it comes,
--- between two events of the editor, and at last `on_end(err)`, `err` nil when all went well.
function Stream:each(what, on_item, on_end)
  local function go_on()
    taking[what](self, vim.schedule_wrap(function(err, item)
      if err or item == nil then
        return on_end and on_end(err)
      end
      on_item(item)
      go_on()
    end))
  end
  go_on()
end

local function wait_for(stream, take)
  return run(function(done)
    take(stream, done)
    return function()
      stream:close()
    end
  end)
end

--- Wait for the next chunk: `chunk, err`; nil at the end.
function Stream:next()
  return wait_for(self, taking.chunks)
end

local function waiting_iterator(stream, take)
  return function()
    local item, err = wait_for(stream, take)
    stream.error = err
    return item
  end
end

--- `for chunk in stream:chunks() do`: waits for each; afterwards `stream.error` tells why it ended,
--- nil when all went well. Likewise `events` and `text`.
function Stream:chunks()
  return waiting_iterator(self, taking.chunks)
end

function Stream:events()
  return waiting_iterator(self, taking.events)
end

function Stream:text()
  return waiting_iterator(self, taking.text)
end

--- Wait for the rest of the body: `bytes, err`.
function Stream:read()
  local parts = {}
  for chunk in self:chunks() do
    table.insert(parts, chunk)
  end
  if self.error then
    return nil, self.error
  end
  return table.concat(parts)
end

--- The refusal, or nil: what the Python client raises. The stream is over then.
function Stream:raise_for_status()
  if not self.ok then
    self:close()
    return self.refusal
  end
end

return Stream
