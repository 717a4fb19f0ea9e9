-- A call on the connection that all calls share, within the client's timeout.

local errors = require('copilot_broker.errors')
local limits = require('copilot_broker.limits')
local waiting = require('copilot_broker.waiting')

-- Methods that change nothing: asking twice is asking once.
local REPEATABLE = {
  ['account.list'] = true,
  ['broker.doctor'] = true,
  ['broker.hello'] = true,
  ['broker.status'] = true,
  ['grant.explain'] = true,
  ['grant.list'] = true,
  ['key.lease'] = true,
  ['key.list'] = true,
  ['key.mint'] = true,
  ['models.list'] = true,
  ['quota.get'] = true,
  ['token.get'] = true,
  ['usage.report'] = true,
}

local function may_repeat(method, err, tries)
  local leaving = err.code == 'connection_lost' or err.code == 'shutting_down'
  return leaving and REPEATABLE[method] and tries < limits.TRIES
end

--- Ask when there is room: `done(err, result)`. Returns what takes it back.
local function ask(client, method, params, done)
  local over, stop_opening, go_on
  local tries = 0
  local function finish(...)
    if not over then
      over = true
      client.room:leave()
      done(...)
    end
  end
  function go_on()
    tries = tries + 1
    stop_opening = client.links:shared(function(err, link)
      if err then
        return finish(err)
      end
      link:ask(method, params, function(problem, result)
        if problem and not over and may_repeat(method, problem, tries) then
          link:close()
          return go_on()
        end
        finish(problem, result)
      end)
    end)
  end
  client.room:enter(go_on)
  return function()
    if not client.room:forget(go_on) then
      stop_opening()
      finish() -- whoever waited has been told: this only makes room
    end
  end
end

--- Ask; `read(result)`, where given, turns the result into `value, err`.
return function(client, method, params, callback, read)
  local seconds = client.timeout or limits.DEFAULT_TIMEOUT
  local function late()
    return errors.timed_out(seconds)
  end
  local function start(done)
    return ask(client, method, params or {}, function(err, result)
      if not err and read then
        result, err = read(result)
      end
      done(err, result)
    end)
  end
  return waiting.run(waiting.within(seconds, late, start), callback)
end
