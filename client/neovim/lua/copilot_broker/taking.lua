-- Taking from a stream: the next chunk, the next event in the chunks, the next text in the events.
-- Each is `take(stream, done)`: `done(err, item)`, both nil at the end. Calls at an end are
-- returned: a long stream takes no stack.

local errors = require('copilot_broker.errors')
local limits = require('copilot_broker.limits')
local Reader = require('copilot_broker.sse')
local refusals = require('copilot_broker.refusals')
local text = require('copilot_broker.text')
local values = require('copilot_broker.values')
local within = require('copilot_broker.waiting').within

local M = {}

function M.chunks(stream, done)
  if stream.closed then
    return done()
  end
  return stream.link:fetch(function(err, event)
    if err then
      local closed = stream.closed -- by somebody, while we waited
      stream:close()
      return done(not closed and err or nil)
    elseif event.over then
      stream.closed = true
      stream.link:close()
      local refusal, why = values.given(event.refusal), values.given(event.error)
      if refusal ~= nil and stream.status then
        stream.refusal = refusals.refusal_of(refusal, stream.status)
      end
      return done(why ~= nil and errors.error_from(why) or nil)
    elseif stream.status and type(event.chunk) ~= 'string' then
      stream:close()
      return done(errors.bad_answer('a chunk of a completion is not bytes', ''))
    end
    stream.used = stream.used + event.cost
    if stream.used >= limits.STREAM_WINDOW / 2 then
      stream.link:notify('stream.credit', { stream = stream.id, bytes = stream.used })
      stream.used = 0
    end
    return done(nil, event.chunk)
  end)
end

--- Hear the end of what has told all: leaving before would cut upstream's connection.
local function await_end(stream, done)
  local function leave()
    stream:close()
  end
  local start = within(limits.LAST_WORD_TIMEOUT, leave, function(finish)
    local function go_on()
      return M.chunks(stream, function(err, chunk)
        if err or chunk == nil then
          return finish()
        end
        return go_on()
      end)
    end
    go_on()
    return leave
  end)
  start(function()
    stream:close()
    done()
  end)
end

function M.events(stream, done)
  if not stream.ok then
    stream:close()
    return done(stream.refusal)
  end
  stream.reader = stream.reader or Reader.new(stream.headers)
  stream.ready = stream.ready or {}
  if stream.broken then
    return await_end(stream, function()
      done(stream.refusal or refusals.broken_off(stream.status))
    end)
  elseif #stream.ready > 0 then
    local event = table.remove(stream.ready, 1)
    stream.broken = text.is_error(event)
    return done(nil, event)
  elseif stream.failed or stream.finished then
    return done(stream.failed or stream.refusal)
  elseif stream.reader.done then
    stream.finished = true
    return await_end(stream, function()
      done(stream.refusal)
    end)
  end
  return M.chunks(stream, function(err, chunk)
    if err then
      return done(err)
    end
    stream.finished = chunk == nil
    local found, problem = stream.reader:take(chunk)
    if problem then
      stream:close()
      stream.failed = problem
    end
    stream.ready = found or {}
    return M.events(stream, done)
  end)
end

function M.text(stream, done)
  return M.events(stream, function(err, event)
    if err or event == nil then
      return done(err)
    end
    local said = text.text_in(event)
    if said == '' then
      return M.text(stream, done)
    end
    return done(nil, said)
  end)
end

return M
