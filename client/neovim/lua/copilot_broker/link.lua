-- One connection: requests out, answers and the events of its stream in.
--
-- A pipe of its own and not Neovim's `sockconnect(…, {rpc = true})`: that one has no deadline, and
-- whoever listens there may call any function of the editor.

local after = require('copilot_broker.timer')
local errors = require('copilot_broker.errors')
local limits = require('copilot_broker.limits')
local messages = require('copilot_broker.messages')
local Scan = require('copilot_broker.scan')
local values = require('copilot_broker.values')

local Link = {}
Link.__index = Link

function Link.new(pipe)
  local link = setmetatable({
    pipe = pipe,
    last_msgid = -1,
    answers = {}, -- msgid → callback(err, result)
    answered = false, -- whether anything was
    streams = {}, -- open stream → the next seq
    events = {}, -- of its stream, that nobody has fetched: from `first` to `last`
    first = 1,
    last = 0,
    fetcher = nil, -- callback(err, event) of who waits for the next one
    parts = {}, -- bytes that have arrived
    size = 0,
    scan = Scan.new(),
    lost = nil, -- why it is over
    on_lost = nil,
  }, Link)
  pipe:read_start(function(err, data)
    if err or not data then
      link:close()
    elseif not link.lost then
      local good, problem = pcall(link.feed, link, data)
      if not good then
        link:fail(type(problem) == 'table' and problem or errors.bad_answer(tostring(problem)))
      end
    end
  end)
  return link
end

--- Take bytes. Raises an error of the protocol.
function Link:feed(data)
  table.insert(self.parts, data)
  self.size = self.size + #data
  if self.size >= self.scan.position then -- else the message surely lacks bytes
    local buffer = table.concat(self.parts)
    local finish = self.scan:find_end(buffer)
    while finish do
      local frame = buffer:sub(1, finish)
      buffer = buffer:sub(finish + 1)
      self.scan = Scan.new()
      self:take(messages.decode(frame), #frame)
      finish = #buffer > 0 and self.scan:find_end(buffer)
    end
    self.parts, self.size = { buffer }, #buffer
  end
  self:watch_half()
end

--- Half a message must not take long; idle is free.
function Link:watch_half()
  if self.size == 0 or self.lost then
    if self.stop_half then
      self.stop_half()
    end
    self.stop_half = nil
  elseif not self.stop_half then
    self.stop_half = after(limits.FRAME_TIMEOUT, function()
      local class = errors.ErrorClass.INTERNAL
      self:fail(errors.failure(class, 'frame_timeout', 'a message came too slowly', errors.LOG_HINT))
    end)
  end
end

function Link:take(message, size)
  if message.msgid then
    self:take_answer(message)
  elseif message.params and message.method == 'stream.data' then
    self:take_chunk(message.params, size)
  elseif message.params and message.method == 'stream.end' then
    self:take_end(message.params)
  end
end

function Link:take_answer(message)
  local msgid, err, result = message.msgid, message.err, message.result
  local callback = self.answers[msgid]
  if callback == nil then
    errors.breach('unknown_msgid', 'an answer to what was not asked')
  end
  self.answers[msgid] = nil
  self.answered = true
  if err ~= nil then
    return callback(errors.error_from(err))
  elseif type(result) == 'table' and values.is_count(result.stream) then
    self.streams[result.stream] = 0
  end
  callback(nil, result)
end

--- The next seq of an open stream.
function Link:seq_of(stream)
  local seq = values.is_count(stream) and self.streams[stream]
  if not seq then
    errors.breach('unknown_stream', 'news of a stream that is not open')
  end
  return seq
end

function Link:take_chunk(event, size)
  local seq = self:seq_of(event.stream)
  if event.seq ~= seq then
    errors.breach('lost_chunk', "a stream's chunks are out of order")
  end
  self.streams[event.stream] = seq + 1
  event.cost = messages.cost_of(event, size)
  self:tell(event)
end

function Link:take_end(event)
  self:seq_of(event.stream)
  self.streams[event.stream] = nil
  event.over = true
  self:tell(event)
end

--- Hand an event to who waits for it, or keep it.
function Link:tell(event)
  local fetcher = self.fetcher
  if fetcher then
    self.fetcher = nil
    fetcher(nil, event)
  else
    self.last = self.last + 1
    self.events[self.last] = event
  end
end

--- The next event of its stream: `callback(err, event)`.
function Link:fetch(callback)
  local event = self.events[self.first] -- calls at an end are returned: they take no stack
  if event then
    self.events[self.first] = nil
    self.first = self.first + 1
    return callback(nil, event)
  elseif self.lost then
    return callback(self.lost)
  end
  self.fetcher = callback
end

--- Send; `callback(err, result)`.
function Link:ask(method, params, callback)
  if self.lost then
    return callback(errors.connection_lost())
  end
  local msgid = (self.last_msgid + 1) % messages.MSGIDS
  local bytes, err = messages.request(msgid, method, params)
  if err then
    return callback(err)
  end
  self.last_msgid = msgid
  self.answers[msgid] = callback
  self.pipe:write(bytes)
end

--- Say something about a stream, while it is open.
function Link:notify(method, params)
  if not self.lost and self.streams[params.stream] then
    self.pipe:write(messages.notification(method, params))
  end
end

--- Hang up; whoever waits is told `err`. Twice is no error.
function Link:fail(err)
  if self.lost then
    return
  end
  self.lost = err
  self:watch_half()
  if not self.pipe:is_closing() then
    self.pipe:close()
  end
  local answers, fetcher = self.answers, self.fetcher
  self.answers, self.fetcher = {}, nil
  for _, callback in pairs(answers) do
    callback(err)
  end
  if fetcher then
    fetcher(err)
  end
  if self.on_lost then
    self.on_lost()
  end
end

function Link:close()
  self:fail(errors.connection_lost())
end

return Link
