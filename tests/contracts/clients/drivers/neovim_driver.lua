-- Drives the Neovim client; see `driving.py` for what is said on stdin and stdout.

local library = require('copilot_broker')
local uv = vim.uv or vim.loop

local CODE = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
local VALUE = {}
for at = 1, #CODE do
  VALUE[CODE:byte(at)] = at - 1
end

local function base64(bytes)
  local out = {}
  for at = 1, #bytes, 3 do
    local a, b, c = bytes:byte(at, at + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    local quad = ''
    for shift = 18, 0, -6 do
      local place = math.floor(n / 2 ^ shift) % 64 + 1
      quad = quad .. CODE:sub(place, place)
    end
    quad = c and quad or quad:sub(1, b and 3 or 2) .. (b and '=' or '==')
    table.insert(out, quad)
  end
  return table.concat(out)
end

local function from_base64(text)
  local out = {}
  for at = 1, #text, 4 do
    local n, size = 0, 3
    for place = at, at + 3 do
      local value = VALUE[text:byte(place)]
      size = value and size or size - 1
      n = n * 64 + (value or 0)
    end
    local bytes = string.char(math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
    table.insert(out, bytes:sub(1, size))
  end
  return table.concat(out)
end

local client
local streams, cancels = {}, {}

local function map(found)
  return next(found) == nil and vim.empty_dict() or found
end

local KINDS = {
  'BrokerUnreachable', 'CopilotBrokerError', 'Denied', 'InternalError', 'Locked', 'LoginRequired',
  'MinValidUnsatisfiable', 'StoreUnavailable', 'Temporary', 'UpstreamRefused', 'UsageError',
}

local function error_of(err)
  if err == nil then
    return vim.NIL
  elseif type(err) ~= 'table' or not err.error_class then
    return { kinds = { 'error' }, text = tostring(err) }
  end
  local kinds = vim.tbl_filter(function(kind)
    return err:is(kind)
  end, KINDS)
  return {
    kinds = kinds,
    code = err.code,
    hint = err.hint,
    url = err.url or vim.NIL,
    retry_after = err.retry_after or vim.NIL,
    message = err.message,
    class = err.error_class,
    status = err.status or vim.NIL,
    text = tostring(err),
  }
end

local FIELDS = {
  token = { 'token', 'expires_at', 'expires_in', 'api_base', 'account', 'token_id', 'clamped', 'headers', 'completions_base', 'cooldown_until' },
  complete = { 'status', 'headers', 'account', 'refusal', 'ok', 'body' },
  stream = { 'status', 'headers', 'account', 'refusal', 'ok' },
  model_list = { 'models', 'account', 'age', 'failure' },
}

--- It as JSON can say it; bytes as {"$bytes": BASE64}.
local function plain(method, found)
  local names = FIELDS[method]
  if not names then
    return found == nil and vim.NIL or found
  end
  local told = {}
  for _, name in ipairs(names) do
    local value = found[name]
    if name == 'body' then
      value = { ['$bytes'] = base64(value) }
    elseif name == 'refusal' or name == 'failure' then
      value = error_of(value)
    elseif name == 'headers' then
      value = map(value)
    end
    told[name] = value == nil and vim.NIL or value
  end
  return told
end

local function arguments_of(asked)
  local arguments = {}
  for _, value in ipairs(asked.needed) do
    local bytes = type(value) == 'table' and value['$bytes']
    table.insert(arguments, bytes and from_base64(bytes) or value)
  end
  table.insert(arguments, asked.options)
  return arguments
end

local function say(id, told)
  told.id = id
  io.stdout:write(vim.json.encode(told) .. '\n')
  io.stdout:flush()
end

--- Ask: waiting, or with a callback where other things are to go on meanwhile.
local function ask(asked, done)
  local arguments = arguments_of(asked)
  local method = client[asked.method]
  if asked.later then
    table.insert(arguments, function(err, value)
      done(value, err)
    end)
    cancels[asked.id] = method(client, unpack(arguments))
    return
  end
  done(method(client, unpack(arguments)))
end

local deeds = {}

function deeds.open(asked, done)
  if client then
    client:close()
  end
  client = library.Client.new({ path = asked.path ~= vim.NIL and asked.path or nil, timeout = asked.options.timeout, name = asked.options.name })
  done()
end

function deeds.close(_, done)
  client:close()
  done()
end

function deeds.surface(_, done)
  local found = vim.tbl_filter(function(name)
    return name:sub(1, 1) ~= '_' and name ~= 'new'
  end, vim.tbl_keys(library.Client))
  table.sort(found)
  done(found)
end

function deeds.cancel(asked, done)
  cancels[asked.call]()
  say(asked.call, { cancelled = true })
  done()
end

function deeds.call(asked, done)
  ask(asked, function(found, err)
    if err then
      return done(nil, err)
    end
    done(plain(asked.method, found))
  end)
end

function deeds.shown(asked, done)
  ask(asked, function(found, err)
    if err then
      return done(nil, err)
    end
    local copy = vim.tbl_extend('force', {}, found)
    local shown = { vim.inspect(found), tostring(found), vim.json.encode(found), vim.inspect(copy) }
    done({ shown = shown, kept = plain(asked.method, found) })
  end)
end

function deeds.begin(asked, done)
  ask(asked, function(stream, err)
    if err then
      return done(nil, err)
    end
    streams[asked.id] = stream
    local told = asked.method == 'stream' and plain('stream', stream) or {}
    told.stream = asked.id
    done(told)
  end)
end

--- Take items until the end, or leave after some, as a program would.
function deeds.items(asked, done)
  local stream, items = streams[asked.stream], {}
  for item in stream[asked.what](stream) do
    table.insert(items, type(item) == 'string' and asked.what == 'chunks' and { ['$bytes'] = base64(item) } or item)
    if #items == asked.count then
      break
    end
  end
  if asked.leave then
    stream:close()
  end
  done({ items = items, error = error_of(stream.error), refusal = error_of(stream.refusal) })
end

function deeds.leave(asked, done)
  streams[asked.stream]:close()
  done()
end

local function answer(line)
  local asked = vim.json.decode(line)
  local good, problem = pcall(deeds[asked['do']], asked, function(found, err)
    say(asked.id, err and { error = error_of(err) } or { ok = found == nil and vim.NIL or found })
  end)
  if not good then
    say(asked.id, { error = error_of(problem) })
  end
end

local stdin, parts = uv.new_pipe(false), {}
stdin:open(0)
stdin:read_start(function(_, data)
  if not data then
    return vim.schedule(function()
      vim.cmd('qall!')
    end)
  end
  table.insert(parts, data)
  if not data:find('\n') then
    return
  end
  local text = table.concat(parts)
  local whole, rest = text:match('^(.*\n)([^\n]*)$')
  parts = { rest }
  for line in whole:gmatch('([^\n]*)\n') do
    vim.schedule(function()
      answer(line)
    end)
  end
end)
