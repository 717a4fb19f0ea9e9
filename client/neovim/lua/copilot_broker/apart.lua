-- Asking on a connection of its own: what may take long, and what streams.

local after = require('copilot_broker.timer')
local completion = require('copilot_broker.completion')
local errors = require('copilot_broker.errors')
local Stream = require('copilot_broker.stream')
local values = require('copilot_broker.values')
local waiting = require('copilot_broker.waiting')

local M = {}

local function upstream_timed_out(seconds)
  local message = ('no answer from GitHub Copilot within %g s'):format(seconds)
  local hint = 'Ask again, or give it a longer timeout'
  return errors.failure(errors.ErrorClass.TEMPORARY, 'timeout', message, hint, { retry_after = 1 })
end

--- Ask; `read(link, result)` turns the result into `value, err`, and closes the link or keeps it.
--- Something at all must have come after `patience.broker` seconds, the answer after
--- `patience.answer`; `patience.greet` says hello, which a broker answers at once.
function M.ask(client, method, params, patience, callback, read)
  local link
  local function is_silent()
    return not (link and link.answered)
  end
  local function late()
    return is_silent() and errors.timed_out(patience.broker) or upstream_timed_out(patience.answer)
  end
  local function start(done)
    local stop_first, stop_opening
    local function stop()
      stop_first()
      if link then
        link:close()
      elseif stop_opening then
        stop_opening()
      end
    end
    local function finish(err, value)
      done(err, value) -- before the rest: who loses a link is told so
      if err then
        stop()
      end
    end
    stop_first = after(patience.broker, function()
      if is_silent() then
        finish(errors.timed_out(patience.broker))
      end
    end)
    stop_opening = client.links:open(patience.greet, function(err, opened)
      if err then
        return finish(err)
      end
      link = opened
      client.links:keep(link, link)
      link:ask(method, params, function(problem, result)
        stop_first()
        local value
        if not problem then
          value, problem = read(link, result)
        end
        finish(problem, value)
      end)
    end)
    return stop
  end
  return waiting.run(waiting.within(patience.answer, late, start), callback)
end

--- Ask for a stream; it is there once it has begun.
function M.begin(client, method, params, patience, callback, is_completion)
  return M.ask(client, method, params, patience, callback, function(link, result)
    if type(result) ~= 'table' or not values.is_count(result.stream) then
      return nil, errors.bad_answer(method .. ' does not stream')
    end
    local head, err
    if is_completion then
      head, err = completion.head_of(result)
    end
    if err then
      return nil, err
    end
    local stream = Stream.new(link, result.stream, head)
    client.links:keep(link, stream)
    return stream
  end)
end

return M
