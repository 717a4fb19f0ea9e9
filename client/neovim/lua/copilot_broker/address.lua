-- Where the broker listens, and whether what is there can be its socket.

local errors = require('copilot_broker.errors')
local limits = require('copilot_broker.limits')

local M = {}

local uv = vim.uv or vim.loop

--- The socket's path, or `nil, err`: `$COPILOT_BROKER_SOCKET`, else the one in the runtime directory.
function M.socket_path()
  local chosen = uv.os_getenv('COPILOT_BROKER_SOCKET')
  if chosen and chosen ~= '' then
    return chosen
  end
  local folder = uv.os_getenv('XDG_RUNTIME_DIR')
  if not folder or folder == '' then
    folder = '/run/user/' .. uv.getuid()
    local found = uv.fs_lstat(folder)
    if not found or found.uid ~= uv.getuid() then
      local message = 'XDG_RUNTIME_DIR is not set and ' .. folder .. ' is not there'
      return nil, errors.unreachable('no_runtime_dir', message)
    end
  end
  return folder .. '/copilot-broker/broker.sock'
end

--- Why `path` is no socket of ours in a folder of ours alone; nil when it is. Neovim tells nobody
--- who listens (SO_PEERCRED), but in such a folder nobody else can have put a socket.
function M.untrusted(path)
  local folder = path:match('^(.+)/[^/]*$') or (path:sub(1, 1) == '/' and '/' or '.')
  local around, found, uid = uv.fs_lstat(folder), uv.fs_lstat(path), uv.getuid()
  if not around or not found then
    return errors.unreachable('not_running', 'no socket at ' .. path)
  end
  local why
  if around.type ~= 'directory' then
    why = folder .. ' is not a folder but a link or file'
  elseif around.uid ~= uid then
    why = folder .. ' belongs to uid ' .. around.uid
  elseif around.mode % 64 ~= 0 then
    why = ('%s is open to others (mode %04o)'):format(folder, around.mode % 4096)
  elseif found.type ~= 'socket' then
    why = path .. ' is not a socket'
  elseif found.uid ~= uid then
    why = path .. ' belongs to uid ' .. found.uid
  elseif #path > limits.MAX_PATH then -- it would be cut, and something else be connected to
    return errors.unreachable('not_running', 'the path is too long: ' .. path)
  end
  return why and errors.unreachable('untrusted_socket', why, errors.DECOY_HINT)
end

return M
