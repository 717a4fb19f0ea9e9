-- What upstream says instead of a completion.

local errors = require('copilot_broker.errors')

local M = {}

local CLASS = errors.ErrorClass

local OF_UPSTREAM = {
  [CLASS.USAGE] = true,
  [CLASS.LOGIN_REQUIRED] = true,
  [CLASS.DENIED] = true,
  [CLASS.TEMPORARY] = true,
}

local function upstream(class, status, code, message, hint, more)
  more = vim.tbl_extend('force', more or {}, { status = status })
  return errors.failure(OF_UPSTREAM[class] and class or CLASS.INTERNAL, code, message, hint, more)
end

--- The broker's account of a refusal.
function M.refusal_of(said, status)
  local e = errors.error_from(said)
  local more = { url = e.url, retry_after = e.retry_after }
  return upstream(e.error_class, status, e.code, e.message, e.hint, more)
end

--- A status that nobody explains.
function M.unexplained(status)
  local final = status >= 400 and status < 500 and status ~= 429
  local message = ('GitHub Copilot answered %d'):format(status)
  local class = final and CLASS.DENIED or CLASS.TEMPORARY
  return upstream(class, status, 'upstream_' .. status, message, errors.STATUS_HINT)
end

--- An error among the events of an answer that had begun well.
function M.broken_off(status)
  local message = 'GitHub Copilot broke off with an error'
  return upstream(CLASS.TEMPORARY, status, 'upstream_error', message, errors.STATUS_HINT)
end

return M
