-- Errors: one kind for each thing a caller can do about it, and those that are this side's own.

local values = require('copilot_broker.values')

local M = {}

M.START_HINT = 'Run: systemctl --user start copilot-broker.socket'
M.DECOY_HINT = 'Remove it, then run: systemctl --user restart copilot-broker.socket'
M.RESTART_HINT = 'Run: systemctl --user restart copilot-broker'
M.LOG_HINT = 'Look at: systemctl --user status copilot-broker'
M.LOOK_HINT = 'Ask again, or look at what comes: copilot-cred api'
M.STATUS_HINT = 'Look at: copilot-cred status'

--- What can be done about an error; the exit codes of `copilot-cred`.
M.ErrorClass = {
  INTERNAL = 1,
  USAGE = 2,
  UNREACHABLE = 3,
  LOGIN_REQUIRED = 4,
  DENIED = 5,
  LOCKED = 6,
  TEMPORARY = 7,
  MIN_VALID = 8,
  STORE_UNAVAILABLE = 9,
}

local CLASS = M.ErrorClass

local KINDS = {
  [CLASS.INTERNAL] = 'InternalError',
  [CLASS.USAGE] = 'UsageError',
  [CLASS.UNREACHABLE] = 'BrokerUnreachable',
  [CLASS.LOGIN_REQUIRED] = 'LoginRequired',
  [CLASS.DENIED] = 'Denied',
  [CLASS.LOCKED] = 'Locked',
  [CLASS.TEMPORARY] = 'Temporary',
  [CLASS.MIN_VALID] = 'MinValidUnsatisfiable',
  [CLASS.STORE_UNAVAILABLE] = 'StoreUnavailable',
}

local Error = {}
Error.__index = Error

--- `code: message. hint`; holds no secret.
function Error.__tostring(err)
  return err.code .. ': ' .. err.message .. '.' .. (err.hint ~= '' and ' ' .. err.hint or '')
end

--- Whether it is of a kind: `err:is('Temporary')`, `err:is('UpstreamRefused')`.
function Error:is(kind)
  return kind == self.kind
    or kind == 'CopilotBrokerError'
    or (kind == 'UpstreamRefused' and self.status ~= nil)
end

--- An error; `more` may hold url, retry_after (seconds) and upstream's status.
function M.failure(class, code, message, hint, more)
  more = more or {}
  return setmetatable({
    kind = KINDS[class],
    error_class = class,
    code = code,
    message = message,
    hint = hint or '',
    url = type(more.url) == 'string' and more.url or nil,
    retry_after = values.number_in(more.retry_after),
    status = more.status, -- of upstream, where it is upstream that refuses
  }, Error)
end

--- The wire's error; a newer broker's unknown class is INTERNAL.
function M.error_from(said)
  if type(said) ~= 'table' then
    return M.failure(CLASS.INTERNAL, 'error', tostring(said))
  end
  local class = KINDS[said.class] and said.class or CLASS.INTERNAL
  local code, message = values.text_or(said.code, 'error'), values.text_or(said.message, '')
  return M.failure(class, code, message, values.text_or(said.hint, ''), said)
end

function M.unreachable(code, message, hint)
  return M.failure(CLASS.UNREACHABLE, code, message, hint or M.START_HINT)
end

function M.connection_lost()
  return M.unreachable('connection_lost', 'the broker hung up before it answered')
end

function M.timed_out(seconds)
  local message = ('the broker did not answer within %g s'):format(seconds)
  return M.failure(CLASS.TEMPORARY, 'timeout', message, M.LOG_HINT, { retry_after = 1 })
end

function M.bad_answer(message, hint)
  return M.failure(CLASS.INTERNAL, 'bad_answer', message, hint or M.LOG_HINT)
end

--- An answer without what a `thing` needs: another version answers.
function M.lacking(thing)
  return M.bad_answer("the broker's answer lacks what a " .. thing .. ' needs', M.RESTART_HINT)
end

--- Raise: the peer broke the rules of the wire. A link that catches it hangs up.
function M.breach(code, message)
  error(M.failure(CLASS.INTERNAL, code, message, M.LOG_HINT), 0)
end

return M
