-- The client: the names of the Python one.

local apart = require('copilot_broker.apart')
local arguments_of = require('copilot_broker.arguments')
local asking = require('copilot_broker.asking')
local completion_from = require('copilot_broker.completion').completion_from
local limits = require('copilot_broker.limits')
local Links = require('copilot_broker.links')
local METHODS = require('copilot_broker.methods')
local reading = require('copilot_broker.reading')
local Room = require('copilot_broker.room')
local waiting = require('copilot_broker.waiting')

local Client = {}
Client.__index = Client

--- Nothing is opened yet. `path`, `timeout` (seconds) and `name` are those of the Python client.
function Client.new(options)
  options = options or {}
  return setmetatable({
    timeout = options.timeout,
    links = Links.new(options.path, options.name),
    room = Room.new(limits.IN_FLIGHT),
  }, Client)
end

local function even_patience(seconds)
  return { broker = seconds, answer = seconds }
end

--- `client:call(method, params, callback, read)`: ask; parameters that are nil are left out.
--- `read(result)`, where given, turns the result into `value, err`.
Client.call = require('copilot_broker.shared')

--- Ask for a stream; returns once it has begun.
function Client:open_stream(method, params, callback)
  local patience = even_patience(self.timeout or limits.DEFAULT_TIMEOUT)
  return apart.begin(self, method, params or {}, patience, callback)
end

for name, method in pairs(METHODS) do
  local read = method.read or reading.map_of(method.wire)
  Client[name] = function(client, ...)
    local params, callback = arguments_of(method, ...)
    for _, flag in ipairs({ 'fresh', 'revoke' }) do
      params[flag] = params[flag] or nil -- false is as if it were not given
    end
    return client:call(method.wire, params, callback, read)
  end
end

--- Tell name, version, features and what we may do.
function Client:hello(...)
  local _, callback = arguments_of({}, ...)
  local introduction = self.links:introduction()
  return self:call('broker.hello', introduction, callback, reading.map_of('broker.hello'))
end

--- End the lock; waits fifteen seconds, for a wrong passphrase is answered late.
function Client:unlock(...)
  local params, callback = arguments_of({ options = { 'passphrase' } }, ...)
  local patience = even_patience(self.timeout or limits.UNLOCK_TIMEOUT)
  local changed = reading.flag_of('broker.unlock', 'changed')
  return apart.ask(self, 'broker.unlock', params, patience, callback, function(link, result)
    link:close()
    return changed(result)
  end)
end

--- Follow an account: its full state at once, then each change.
function Client:watch(...)
  local params, callback = arguments_of({ options = { 'account' } }, ...)
  return self:open_stream('token.watch', params, callback)
end

--- Sign in: the user code, progress and, at last, the account.
function Client:login(...)
  local options = { 'account', 'host', 'client_id', 'scope', 'store', 'token' }
  local params, callback = arguments_of({ options = options }, ...)
  return self:open_stream('account.login', params, callback)
end

--- How long a completion may take: `patience, err`; `params` get their body.
local function prepare(client, params, body, usual)
  local timeout, err = asking.complete_params(params, body)
  timeout = timeout or client.timeout
  local broker, answer = timeout or limits.DEFAULT_TIMEOUT, timeout or usual
  return { broker = broker, answer = answer, greet = true }, err
end

--- Ask GitHub Copilot and wait for the whole answer; any status is an answer. A string is sent byte
--- for byte, a table as JSON.
function Client:complete(body, ...)
  local params, callback = arguments_of(asking.COMPLETION, ...)
  local patience, err = prepare(self, params, body, limits.JSON_TIMEOUT)
  if err then
    return waiting.run(waiting.refused(err), callback)
  end
  return apart.ask(self, 'completion.create', params, patience, callback, function(link, result)
    link:close()
    return completion_from(result)
  end)
end

--- Ask GitHub Copilot for an answer that comes in pieces; returns once it begins.
function Client:stream(body, ...)
  local params, callback = arguments_of(asking.COMPLETION, ...)
  local patience, err = prepare(self, params, body, limits.FIRST_BYTE_TIMEOUT)
  if err then
    return waiting.run(waiting.refused(err), callback)
  end
  params.stream = true
  return apart.begin(self, 'completion.create', params, patience, callback, true)
end

--- Close all connections and streams; the client may be used again.
function Client:close()
  self.links:close()
end

return Client
