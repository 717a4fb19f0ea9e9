-- The client library of copilot-broker for Neovim: tokens and completions from this session's
-- broker. One file, no dependency, Neovim 0.7 or newer; put it where `require` finds it.
--
--   local broker = require('copilot_broker').Client.new({ name = 'my-plugin' })
--   local token, err = broker:token({ min_valid = 300 })          -- waits
--   broker:token({ min_valid = 300 }, function(err, token) end)   -- does not
--
-- The names are those of the Python client. What a method cannot do without is an argument, all
-- else is in one table under its Python name, and a function at the end makes it a call that does
-- not wait. Errors are returned: `tostring(err)` is one line that ends in what mends it.
--
-- A pipe of its own and not Neovim's `sockconnect(…, {rpc = true})`: that one has no deadline, and
-- whoever listens there may call any function of the editor.

local M = {}

local uv = vim.uv or vim.loop
local pack, unpack_message = vim.mpack.encode, vim.mpack.decode
local NIL = vim.NIL
local is_list = vim.islist or vim.tbl_islist

-- Seconds, as everywhere on the wire.
local DEFAULT_TIMEOUT = 5 -- for one call, connecting included
local FIRST_BYTE_TIMEOUT = 120 -- until a streamed completion begins: models think first
local JSON_TIMEOUT = 600 -- until a completion is there as a whole
local UNLOCK_TIMEOUT = 15 -- a wrong passphrase is answered after up to ten
local LAST_WORD_TIMEOUT = 1 -- for the end of a stream whose [DONE] has come
local FRAME_TIMEOUT = 10 -- from a message's first byte to its last; idle is free
local WAIT_SLICE = 0.2 -- a person's Ctrl-C is heard so soon
local BUSY_PAUSE = 0.01 -- between two tries while the listener's queue is full

-- Bytes, unless said otherwise.
local MAX_FRAME = 32 * 1024 * 1024 -- a whole completion is one message
local MAX_BODY = MAX_FRAME - 64 * 1024
local MAX_DEPTH = 32 -- nesting; ours is six deep
local MAX_ITEMS = 64 * 1024 -- values in one message
local MAX_PATH = 107 -- of a socket, unix(7)
local STREAM_WINDOW = 256 * 1024 -- credit that a stream starts with
local IN_FLIGHT = 15 -- of a connection's 16 unanswered requests one is the hello's
local TRIES = 3 -- of a call that may be repeated, when a restarting broker hangs up

local START_HINT = 'Run: systemctl --user start copilot-broker.socket'
local DECOY_HINT = 'Remove it, then run: systemctl --user restart copilot-broker.socket'
local RESTART_HINT = 'Run: systemctl --user restart copilot-broker'
local LOG_HINT = 'Look at: systemctl --user status copilot-broker'
local LOOK_HINT = 'Ask again, or look at what comes: copilot-cred api'

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

-- Errors: one kind for each thing a caller can do about it --------------------------------------

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

local KINDS = {
  'InternalError',
  'UsageError',
  'BrokerUnreachable',
  'LoginRequired',
  'Denied',
  'Locked',
  'Temporary',
  'MinValidUnsatisfiable',
  'StoreUnavailable',
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

local function failure(class, code, message, hint, more)
  more = more or {}
  return setmetatable({
    kind = KINDS[class],
    error_class = class,
    code = code,
    message = message,
    hint = hint or '',
    url = type(more.url) == 'string' and more.url or nil,
    retry_after = type(more.retry_after) == 'number' and more.retry_after or nil,
    status = more.status, -- of upstream, where it is upstream that refuses
  }, Error)
end

local function text_or(value, default)
  return (value == nil or value == NIL) and default or tostring(value)
end

--- The wire's error; a newer broker's unknown class is INTERNAL.
local function error_from(said)
  if type(said) ~= 'table' then
    return failure(1, 'error', tostring(said))
  end
  local class = KINDS[said.class] and said.class or 1
  local code, message = text_or(said.code, 'error'), text_or(said.message, '')
  return failure(class, code, message, text_or(said.hint, ''), said)
end

local function connection_lost()
  return failure(3, 'connection_lost', 'the broker hung up before it answered', START_HINT)
end

local function timed_out(seconds)
  local message = ('the broker did not answer within %g s'):format(seconds)
  return failure(7, 'timeout', message, LOG_HINT, { retry_after = 1 })
end

local function bad_answer(message)
  return failure(1, 'bad_answer', message, LOG_HINT)
end

-- What upstream says instead of a completion ------------------------------------------------------

local OF_UPSTREAM = { [2] = true, [4] = true, [5] = true, [7] = true }

local function is_ok(status)
  return status >= 200 and status < 300
end

local function upstream(class, status, code, message, hint, more)
  more = vim.tbl_extend('force', more or {}, { status = status })
  return failure(OF_UPSTREAM[class] and class or 1, code, message, hint, more)
end

local function unexplained(status)
  local final = status >= 400 and status < 500 and status ~= 429
  local message = ('GitHub Copilot answered %d'):format(status)
  local hint = 'Look at: copilot-cred status'
  return upstream(final and 5 or 7, status, 'upstream_' .. status, message, hint)
end

local function broken_off(status)
  local message = 'GitHub Copilot broke off with an error'
  return upstream(7, status, 'upstream_error', message, 'Look at: copilot-cred status')
end

local function refusal_of(said, status)
  local e = error_from(said)
  local more = { url = e.url, retry_after = e.retry_after }
  return upstream(e.error_class, status, e.code, e.message, e.hint, more)
end

-- Where a message ends, told from its bytes before anything is decoded ----------------------------
-- (MessagePack spec, "Formats".) A claim of 1 GB, or a tower of arrays, is refused at its header.

-- Per type byte: bytes of the length field, size without one, payload bytes and values per length.
local FORMATS = {}
for byte = 0, 255 do
  local form = { 0, 0, 1, 0 } -- small integers, nil, false, true
  if byte >= 0x80 and byte <= 0x8f then
    form = { 0, byte % 16, 0, 2 }
  elseif byte >= 0x90 and byte <= 0x9f then
    form = { 0, byte % 16, 0, 1 }
  elseif byte >= 0xa0 and byte <= 0xbf then
    form = { 0, byte % 32, 1, 0 }
  elseif byte >= 0xc4 and byte <= 0xc6 then
    form = { 2 ^ (byte - 0xc4), 0, 1, 0 } -- bin
  elseif byte >= 0xca and byte <= 0xcb then
    form = { 0, 4 * 2 ^ (byte - 0xca), 1, 0 } -- float, double
  elseif byte >= 0xcc and byte <= 0xd3 then
    form = { 0, 2 ^ (byte % 4), 1, 0 } -- uint, int
  elseif byte >= 0xd9 and byte <= 0xdb then
    form = { 2 ^ (byte - 0xd9), 0, 1, 0 } -- str
  elseif byte >= 0xdc and byte <= 0xdf then
    form = { 2 + 2 * (byte % 2), 0, 0, byte < 0xde and 1 or 2 } -- array, map
  elseif byte == 0xc1 or (byte >= 0xc7 and byte <= 0xc9) or (byte >= 0xd4 and byte <= 0xd8) then
    form = nil -- never used; the extension types have no place on this wire
  end
  FORMATS[byte] = form
end

local function breach(code, message)
  error(failure(1, code, message, LOG_HINT), 0)
end

--- Walk on from where `scan` stopped. Returns where the message ends, nil while bytes are missing
--- (`scan.position` is then how many there must be at least). Raises an error of the protocol.
local function find_end(scan, buffer)
  local lacking, filled = scan.lacking, #buffer
  while scan.position == 0 or #lacking > 0 do
    if scan.position >= filled then
      return nil
    end
    local byte = buffer:byte(scan.position + 1)
    local form = FORMATS[byte]
    if form == nil then
      breach('bad_type', ('type byte %#x is not used'):format(byte))
    elseif scan.position == 0 and form[4] ~= 1 then
      breach('not_a_message', 'a message is an array (MessagePack-RPC)')
    end
    local start, size = scan.position + 1 + form[1], form[2]
    if start > filled then
      return nil
    end
    if form[1] > 0 then
      size = 0
      for at = scan.position + 2, start do
        size = size * 256 + buffer:byte(at)
      end
    end
    scan.position = start + size * form[3]
    if scan.position > MAX_FRAME then
      breach('frame_too_large', ('more than %d bytes'):format(MAX_FRAME))
    end
    if #lacking > 0 then
      lacking[#lacking] = lacking[#lacking] - 1
    end
    local values = size * form[4]
    if values > 0 then
      scan.items = scan.items + values
      if scan.items > MAX_ITEMS then
        breach('too_many_items', ('more than %d values'):format(MAX_ITEMS))
      elseif #lacking == MAX_DEPTH then
        breach('too_deep', ('nested deeper than %d'):format(MAX_DEPTH))
      end
      table.insert(lacking, values)
    end
    while #lacking > 0 and lacking[#lacking] == 0 do
      table.remove(lacking)
    end
  end
  return scan.position <= filled and scan.position or nil
end

local function new_scan()
  return { position = 0, items = 0, lacking = {} }
end

-- Bytes of a string of any bytes: Neovim's encoder would call it text.
local function as_bin(bytes)
  local size = #bytes
  if size < 2 ^ 8 then
    return '\xc4' .. string.char(size) .. bytes
  end
  local length = {}
  for shift = size < 2 ^ 16 and 1 or 3, 0, -1 do
    table.insert(length, string.char(math.floor(size / 256 ^ shift) % 256))
  end
  return (size < 2 ^ 16 and '\xc5' or '\xc6') .. table.concat(length) .. bytes
end

local function is_map(value)
  return type(value) == 'table' and (next(value) == nil or not is_list(value))
end

local function is_count(value)
  return type(value) == 'number' and value >= 0 and value % 1 == 0
end

-- One connection ------------------------------------------------------------------------------------

local function after(seconds, action)
  local timer = uv.new_timer()
  timer:start(math.max(0, math.floor(seconds * 1000)), 0, function()
    action()
  end)
  return function()
    if not timer:is_closing() then
      timer:close()
    end
  end
end

--- The socket's path: `$COPILOT_BROKER_SOCKET`, else the one in the runtime directory.
local function socket_path()
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
      return nil, failure(3, 'no_runtime_dir', message, START_HINT)
    end
  end
  return folder .. '/copilot-broker/broker.sock'
end

--- Why `path` is no socket of ours in a folder of ours alone; nil when it is. Neovim tells nobody
--- who listens (SO_PEERCRED), but in such a folder nobody else can have put a socket.
local function untrusted(path)
  local folder = path:match('^(.+)/[^/]*$') or (path:sub(1, 1) == '/' and '/' or '.')
  local around, found, uid = uv.fs_lstat(folder), uv.fs_lstat(path), uv.getuid()
  if not around or not found then
    return failure(3, 'not_running', 'no socket at ' .. path, START_HINT)
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
  elseif #path > MAX_PATH then -- it would be cut, and something else be connected to
    return failure(3, 'not_running', 'the path is too long: ' .. path, START_HINT)
  end
  return why and failure(3, 'untrusted_socket', why, DECOY_HINT)
end

local Link = {}
Link.__index = Link

--- Connect; `callback(err, link)`. Returns what takes it back. A full queue is waited for.
local function connect(path, callback)
  local pipe, stop_pause, over
  local function try()
    local err = untrusted(path)
    if err then
      return callback(err)
    end
    pipe = uv.new_pipe(false)
    pipe:connect(path, function(problem)
      if over then
        return
      elseif problem == nil then
        return callback(nil, Link.new(pipe))
      end
      pipe:close()
      if problem:match('EAGAIN') then
        stop_pause = after(BUSY_PAUSE, function()
          stop_pause()
          try()
        end)
        return
      end
      local message = ('nobody answers at %s (%s)'):format(path, problem)
      callback(failure(3, 'not_running', message, START_HINT))
    end)
  end
  try()
  return function()
    over = true
    if stop_pause then
      stop_pause()
    end
    if pipe and not pipe:is_closing() then
      pipe:close()
    end
  end
end

function Link.new(pipe)
  local link = setmetatable({
    pipe = pipe,
    last_msgid = -1,
    answers = {}, -- msgid → callback(err, result); false: nobody listens any more
    waiting = 0,
    streams = {}, -- open stream → the next seq
    events = {}, -- of its stream, that nobody has fetched: from `first` to `last`
    first = 1,
    last = 0,
    parts = {}, -- bytes that have arrived
    size = 0,
    scan = new_scan(),
  }, Link)
  pipe:read_start(function(err, data)
    if err or not data then
      link:fail(connection_lost())
    elseif not link.lost then
      local good, problem = pcall(link.feed, link, data)
      if not good then
        link:fail(type(problem) == 'table' and problem or bad_answer(tostring(problem)))
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
    local finish = find_end(self.scan, buffer)
    while finish do
      local frame = buffer:sub(1, finish)
      buffer = buffer:sub(finish + 1)
      self.scan = new_scan()
      self:take(frame)
      finish = #buffer > 0 and find_end(self.scan, buffer)
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
    self.stop_half = after(FRAME_TIMEOUT, function()
      self:fail(failure(1, 'frame_timeout', 'a message came too slowly', LOG_HINT))
    end)
  end
end

function Link:take(frame)
  local good, message = pcall(unpack_message, frame)
  if not good then
    breach('not_a_message', 'odd keys')
  elseif message[1] == 1 and #message == 4 and is_count(message[2]) and message[2] < 2 ^ 32 then
    self:take_answer(message[2], message[3], message[4])
  elseif message[1] == 2 and #message == 3 and type(message[2]) == 'string' then
    local params = type(message[3]) == 'table' and message[3][1]
    if type(params) == 'table' then
      self:take_news(message[2], params, #frame)
    end
  elseif message[1] == 0 then
    breach('wrong_direction', 'this side never sends that')
  else
    breach('not_a_message', 'neither request nor response nor notification')
  end
end

function Link:take_answer(msgid, err, result)
  local callback = self.answers[msgid]
  if callback == nil then
    breach('unknown_msgid', 'an answer to what was not asked')
  end
  self.answers[msgid] = nil
  self.answered = true
  if self.on_news then
    self.on_news()
  end
  if err == NIL and type(result) == 'table' and is_count(result.stream) then
    self.streams[result.stream] = 0
  end
  if callback and err ~= NIL then
    callback(error_from(err))
  elseif callback then
    callback(nil, result)
  end
end

function Link:take_news(method, params, size)
  local stream = params.stream
  if method ~= 'stream.data' and method ~= 'stream.end' then
    return
  elseif not is_count(stream) or not self.streams[stream] then
    breach('unknown_stream', 'news of a stream that is not open')
  end
  local event = params
  if method == 'stream.end' then
    self.streams[stream] = nil
    event.over = true
  else
    if params.seq ~= self.streams[stream] then
      breach('lost_chunk', "a stream's chunks are out of order")
    end
    self.streams[stream] = params.seq + 1
    -- Lua does not tell 60.0 from 60: so a map is not encoded again to learn what it costs
    local around = { stream = stream, seq = params.seq, chunk = NIL }
    local is_bytes = type(params.chunk) == 'string'
    event.cost = is_bytes and #params.chunk or size - #pack({ 2, method, { around } }) + 1
  end
  if self.fetcher then
    local fetcher = self.fetcher
    self.fetcher = nil
    fetcher(nil, event)
  else
    self.last = self.last + 1
    self.events[self.last] = event
  end
end

--- Send; `callback(err, result)`. Returns what takes it back: the answer is then dropped.
function Link:ask(method, params, callback)
  if self.lost then
    callback(connection_lost())
    return function() end
  end
  local msgid = (self.last_msgid + 1) % 2 ^ 32
  local parts, count = {}, 0
  for name, value in pairs(params) do
    if value ~= NIL then
      count = count + 1
      local good, packed = pcall(name == 'body' and as_bin or pack, value)
      if not good then
        local message = 'a message holds what MessagePack cannot say'
        callback(failure(2, 'not_encodable', message))
        return function() end
      end
      table.insert(parts, pack(name) .. packed)
    end
  end
  local head = '\x94\x00' .. pack(msgid) .. pack(method) .. '\x91' .. string.char(0x80 + count)
  self.last_msgid = msgid
  self.answers[msgid] = callback
  self.pipe:write(head .. table.concat(parts))
  return function()
    if self.answers[msgid] then
      self.answers[msgid] = false
    end
  end
end

function Link:notify(method, params)
  if not self.lost and self.streams[params.stream] then
    self.pipe:write(pack({ 2, method, { params } }))
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
  else
    self.fetcher = callback
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
  if self.on_news then
    self.on_news()
  end
  local answers, fetcher = self.answers, self.fetcher
  self.answers, self.fetcher = {}, nil
  for _, callback in pairs(answers) do
    if callback then
      callback(err)
    end
  end
  if fetcher then
    fetcher(err)
  end
  if self.on_lost then
    self.on_lost()
  end
end

function Link:close()
  self:fail(connection_lost())
end

-- Waiting ---------------------------------------------------------------------------------------------

--- Run `start(done)`, which returns what takes it back. With a callback it is called later, between
--- two events of the editor: `callback(err, value)`, and what takes it back is returned. Without
--- one, wait: `value, err`. Ctrl-C takes it back.
local function run(start, callback)
  if callback then
    return start(vim.schedule_wrap(callback))
  end
  local finished, err, value
  local cancel = start(function(...)
    finished, err, value = true, ...
  end)
  local interrupted = false
  while not (finished or interrupted) do
    -- a slice at a time: Neovim 0.7 tells of Ctrl-C only at the end of one
    local _, why = vim.wait(WAIT_SLICE * 1000, function()
      return finished
    end, 20)
    interrupted = why == -2
  end
  if not finished then
    cancel()
    return nil, failure(7, 'interrupted', 'it was interrupted', 'Ask again')
  elseif err then
    return nil, err
  end
  return value
end

--- Turn `start` into one that is over after `seconds`, with the error that `late()` makes.
local function within(seconds, late, start)
  return function(done)
    local stop_timer, cancel, over
    local function finish(...)
      if not over then
        over = true
        stop_timer()
        done(...)
      end
    end
    local function take_back()
      if not over then
        over = true
        stop_timer()
        if cancel then
          cancel()
        end
      end
    end
    stop_timer = after(seconds, function()
      if not over then
        take_back()
        done(late())
      end
    end)
    cancel = start(finish)
    return take_back
  end
end

-- What is answered ----------------------------------------------------------------------------------

--- A table that shows `shown`; what is in `kept` can be asked for and is never shown.
local function masked(shown, kept, name, methods)
  return setmetatable(shown, {
    __index = function(_, key)
      local method = methods and methods[key]
      if method ~= nil then
        return method
      end
      return kept[key]
    end,
    __tostring = function()
      return name
    end,
  })
end

--- A token; however it is shown, the id is there and `token.token`, the secret, is not.
local function token_from(result)
  local lacks = failure(1, 'bad_answer', "the broker's answer lacks what a token needs", RESTART_HINT)
  if type(result) ~= 'table' then
    return nil, lacks
  end
  for name, kind in pairs({
    token = 'string',
    expires_at = 'number',
    expires_in = 'number',
    api_base = 'string',
    account = 'string',
    token_id = 'string',
  }) do
    if type(result[name]) ~= kind then
      return nil, lacks
    end
  end
  local until_ = result.cooldown_until
  return masked({
    expires_at = result.expires_at,
    expires_in = result.expires_in,
    api_base = result.api_base,
    account = result.account,
    token_id = result.token_id,
    clamped = result.clamped == true,
    headers = type(result.headers) == 'table' and result.headers or {},
    completions_base = text_or(result.completions_base, ''),
    cooldown_until = type(until_) == 'number' and until_ or nil,
  }, { token = result.token }, ('Token(token_id=%s account=%s)'):format(result.token_id, result.account))
end

-- Types of events that are errors, with or without a field `error` (Responses, Messages).
local FAILED = { ['error'] = true, ['response.failed'] = true }

local function is_error(event)
  local said = event.error
  return (said ~= nil and said ~= NIL and said ~= false) or FAILED[event.type] or false
end

--- Content is text, null, or parts of which some are text.
local function plain(content)
  if type(content) == 'string' then
    return content
  end
  local texts = {}
  for _, part in ipairs(type(content) == 'table' and content or {}) do
    if type(part) == 'table' and type(part.text) == 'string' then
      table.insert(texts, part.text)
    end
  end
  return table.concat(texts)
end

local function text_without_choices(event)
  local delta, output = event.delta, event.output
  if is_map(delta) then
    return plain({ delta })
  elseif type(delta) == 'string' then
    return event.type == 'response.output_text.delta' and delta or ''
  elseif type(output) ~= 'table' then
    return plain(event.content)
  end
  local texts = {}
  for _, item in ipairs(output) do
    if type(item) == 'table' and item.type == 'message' then -- thoughts have content, too
      table.insert(texts, plain(item.content))
    end
  end
  return table.concat(texts)
end

--- What a completion, or one event of a stream, adds to the first choice's text.
local function text_in(event)
  local choices = event.choices
  if choices == nil or choices == NIL then
    return text_without_choices(event)
  end
  for position, choice in ipairs(type(choices) == 'table' and choices or {}) do
    local index = type(choice) == 'table' and choice.index
    if index == nil then
      index = position - 1
    end
    if index == 0 or index == NIL then
      local delta = choice.delta
      local said = type(delta) == 'table' and next(delta) and delta or choice.message
      local text = type(said) == 'table' and plain(said.content) or ''
      if text ~= '' then
        return text
      end
    end
  end
  return ''
end

local function from_json(text)
  local good, value = pcall(vim.json.decode, text)
  return good, value
end

local function head_of(result)
  local status, headers = result.status, result.headers
  if headers == nil or headers == NIL then
    headers = {}
  end
  if not is_count(status) or type(headers) ~= 'table' then
    return nil, failure(1, 'bad_answer', "the broker's answer lacks what a completion needs", RESTART_HINT)
  end
  local account = text_or(result.account, headers['x-copilot-broker-account'] or '')
  local refusal = result.refusal
  if refusal ~= nil and refusal ~= NIL then
    refusal = refusal_of(refusal, status)
  else
    refusal = not is_ok(status) and unexplained(status) or nil
  end
  return { status = status, headers = headers, account = account, refusal = refusal, ok = is_ok(status) }
end

local Completion = {}

--- The refusal, or nil: what the Python client raises.
function Completion:raise_for_status()
  return self.refusal or (not self.ok and unexplained(self.status)) or nil
end

function Completion:json()
  local good, value = from_json(self.body)
  if good then
    return value
  end
  return nil, failure(1, 'not_json', "upstream's answer is not JSON", LOOK_HINT)
end

--- The first choice's text, '' when it has none; `nil, err` where there is no completion.
function Completion:text()
  local err = self:raise_for_status()
  local found
  if not err then
    found, err = self:json()
  end
  if err then
    return nil, err
  elseif not is_map(found) then
    return ''
  elseif is_error(found) then
    return nil, broken_off(self.status)
  end
  return text_in(found)
end

local function completion_from(result)
  local head, err
  if type(result) == 'table' and type(result.body) == 'string' then
    head, err = head_of(result)
  else
    err = failure(1, 'bad_answer', "the broker's answer lacks what a completion needs", RESTART_HINT)
  end
  if err then
    return nil, err
  end
  local name = ('Completion(status=%d account=%s)'):format(head.status, head.account)
  local kept = { body = result.body, headers = head.headers }
  head.headers = nil
  return masked(head, kept, name, Completion)
end

local function models_from(result)
  local models = type(result) == 'table' and result.models
  local good = type(models) == 'table' and is_list(models)
  for _, model in ipairs(good and models or {}) do
    good = good and type(model) == 'table'
  end
  if not good then
    return nil, failure(1, 'bad_answer', 'the answer to models.list holds no models', RESTART_HINT)
  end
  local failed = result.error
  return {
    models = models,
    account = text_or(result.account, ''),
    age = type(result.age) == 'number' and result.age or 0,
    failure = failed ~= nil and failed ~= NIL and error_from(failed) or nil,
  }
end

-- Server-sent events (the HTML standard, "Interpreting an event stream") -----------------------------

local function new_reader(headers)
  local kind = (headers['content-type'] or ''):match('^[^;]*'):gsub('%s', ''):lower()
  return { whole = kind == 'application/json', rest = '', data = {}, held = 0, first = true }
end

local function read_payload(reader, found, payload)
  local text = vim.trim(payload)
  if reader.done or text == '[DONE]' then
    reader.done = true
  elseif text ~= '' then
    local good, value = from_json(text)
    if not good then
      return failure(1, 'bad_event', 'an event of the answer is not JSON', LOOK_HINT)
    elseif is_map(value) then
      table.insert(found, value)
    end
  end
end

local function read_line(reader, found, line)
  if reader.first then
    line, reader.first = line:gsub('^\xef\xbb\xbf', ''), false
  end
  if line == '' then
    local data = reader.data
    reader.data, reader.held = {}, 0
    return #data > 0 and read_payload(reader, found, table.concat(data, '\n')) or nil
  end
  local name, value = line:match('^([^:]*):? ?(.*)$')
  if name == 'data' then
    table.insert(reader.data, value)
    reader.held = reader.held + #value
  end
end

--- Take a chunk (nil at the end); return the objects that it completes, or `nil, err`.
local function read_events(reader, chunk)
  local found, err = {}, nil
  if reader.whole then
    reader.rest = reader.rest .. (chunk or '')
    if not chunk then
      err = read_payload(reader, found, reader.rest)
    end
    return not err and found or nil, err
  end
  local text = reader.rest .. (chunk or '\n\n')
  local start = 1
  while not err do
    local at = text:find('[\r\n]', start)
    -- a CR at the very end may be half of a CR LF
    if not at or (chunk and at == #text and text:sub(at, at) == '\r') then
      break
    end
    err = read_line(reader, found, text:sub(start, at - 1))
    start = at + (text:sub(at, at + 1) == '\r\n' and 2 or 1)
  end
  reader.rest = text:sub(start)
  if not err and #reader.rest + reader.held > MAX_FRAME then
    err = failure(1, 'event_too_long', ('one event has more than %d bytes'):format(MAX_FRAME), LOOK_HINT)
  end
  return not err and found or nil, err
end

-- Streams: each on a connection of its own; closing one cuts upstream at once -------------------------

local Stream = {}
Stream.__index = Stream

local function new_stream(link, result)
  return setmetatable({ link = link, id = result.stream, used = 0, closed = false }, Stream)
end

function Stream.__tostring(stream)
  return stream.status and ('CompletionStream(status=%d account=%s)'):format(stream.status, stream.account)
    or 'Stream()'
end

--- Stop it. Twice is no error.
function Stream:close()
  if not self.closed then
    self.closed = true
    self.link:notify('stream.cancel', { stream = self.id })
    self.link:close()
  end
end

--- The next chunk: `done(err, chunk)`, both nil at the end.
local function take_chunk(stream, done)
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
      if event.refusal ~= nil and event.refusal ~= NIL and stream.status then
        stream.refusal = refusal_of(event.refusal, stream.status)
      end
      local why = event.error
      return done(why ~= nil and why ~= NIL and error_from(why) or nil)
    elseif stream.status and type(event.chunk) ~= 'string' then
      stream:close()
      return done(failure(1, 'bad_answer', 'a chunk of a completion is not bytes'))
    end
    stream.used = stream.used + event.cost
    if stream.used >= STREAM_WINDOW / 2 then
      stream.link:notify('stream.credit', { stream = stream.id, bytes = stream.used })
      stream.used = 0
    end
    return done(nil, event.chunk)
  end)
end

--- Hear the end of what has told all: leaving before would cut upstream's connection.
local function await_end(stream, done)
  local start = within(LAST_WORD_TIMEOUT, function() end, function(finish)
    local function go_on()
      return take_chunk(stream, function(err, chunk)
        if err or chunk == nil then
          return finish()
        end
        return go_on()
      end)
    end
    go_on()
  end)
  start(function()
    stream:close()
    done()
  end)
end

--- The next object out of upstream's events: `done(err, event)`, both nil at the end.
local function take_event(stream, done)
  if not stream.ok then
    stream:close()
    return done(stream.refusal or unexplained(stream.status))
  end
  stream.reader = stream.reader or new_reader(stream.headers)
  stream.ready = stream.ready or {}
  if stream.broken then
    return await_end(stream, function()
      done(stream.refusal or broken_off(stream.status))
    end)
  elseif #stream.ready > 0 then
    local event = table.remove(stream.ready, 1)
    stream.broken = is_error(event)
    return done(nil, event)
  elseif stream.failed or stream.finished then
    return done(stream.failed or stream.refusal)
  elseif stream.reader.done then
    stream.finished = true
    return await_end(stream, function()
      done(stream.refusal)
    end)
  end
  return take_chunk(stream, function(err, chunk)
    if err then
      return done(err)
    end
    stream.finished = chunk == nil
    local found, problem = read_events(stream.reader, chunk)
    if problem then
      stream:close()
      stream.failed = problem
    end
    stream.ready = found or {}
    return take_event(stream, done)
  end)
end

local function take_text(stream, done)
  return take_event(stream, function(err, event)
    if err or event == nil then
      return done(err)
    end
    local text = text_in(event)
    if text == '' then
      return take_text(stream, done)
    end
    return done(nil, text)
  end)
end

local TAKES = { chunks = take_chunk, events = take_event, text = take_text }

--- Have `on_item(item)` called for each of the `chunks`, `events` or pieces of `text` as it comes,
--- between two events of the editor, and at last `on_end(err)`, `err` nil when all went well.
function Stream:each(what, on_item, on_end)
  local function go_on()
    TAKES[what](self, vim.schedule_wrap(function(err, item)
      if err or item == nil then
        return on_end and on_end(err)
      end
      on_item(item)
      go_on()
    end))
  end
  go_on()
end

--- Wait for the next chunk: `chunk, err`; nil at the end.
function Stream:next()
  return run(function(done)
    take_chunk(self, done)
    return function()
      self:close()
    end
  end)
end

local function waiting_iterator(stream, take)
  return function()
    local item, err = run(function(done)
      take(stream, done)
      return function()
        stream:close()
      end
    end)
    stream.error = err
    return item
  end
end

--- `for chunk in stream:chunks() do`: waits for each; afterwards `stream.error` tells why it ended,
--- nil when all went well. Likewise `events` and `text`.
function Stream:chunks()
  return waiting_iterator(self, take_chunk)
end

function Stream:events()
  return waiting_iterator(self, take_event)
end

function Stream:text()
  return waiting_iterator(self, take_text)
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
    return self.refusal or unexplained(self.status)
  end
end

-- The client ------------------------------------------------------------------------------------------

local Client = {}
Client.__index = Client
M.Client = Client

--- Nothing is opened yet. `path`, `timeout` (seconds) and `name` are those of the Python client.
function Client.new(options)
  options = options or {}
  local client = { path = options.path, timeout = options.timeout, name = options.name }
  return setmetatable(vim.tbl_extend('force', client, { asked = 0, line = {}, apart = {} }), Client)
end

local function hello_params(client)
  return { protocol = 1, client = client.name }
end

local function open_link(client, greet, done)
  local path, err = client.path, nil
  if not path then
    path, err = socket_path()
  end
  if err then
    done(err)
    return function() end
  end
  return connect(path, function(problem, link)
    if link and (greet or client.name) then
      -- goes out with the first request; its answer changes nothing
      link:ask('broker.hello', hello_params(client), function() end)
    end
    done(problem, link)
  end)
end

--- The connection that calls share, opened when needed: `done(err, link)`. Returns what takes it
--- back; when nobody waits for it any more, it is not opened.
local function usable_link(client, done)
  if client.link and not client.link.lost then
    done(nil, client.link)
    return function() end
  end
  local opening = client.opening
  if not opening then
    opening = { waits = {} }
    client.opening = opening
  end
  opening.waits[done] = true
  if not opening.cancel then
    opening.cancel = open_link(client, false, function(err, link)
      client.opening, client.link = nil, link
      for wait in pairs(opening.waits) do
        wait(err, link)
      end
    end)
  end
  return function()
    opening.waits[done] = nil
    if client.opening == opening and next(opening.waits) == nil then
      client.opening = nil
      opening.cancel()
    end
  end
end

local function may_repeat(method, err, tries)
  local leaving = err.code == 'connection_lost' or err.code == 'shutting_down'
  return leaving and REPEATABLE[method] and tries < TRIES
end

--- Ask on the shared connection, when there is room: `done(err, result)`.
local function ask_shared(client, method, params, done)
  local cancel, over, entered, go_on
  local tries = 0
  local function leave(...)
    if over then
      return
    end
    over = true
    if entered then
      client.asked = client.asked - 1
      local following = table.remove(client.line, 1)
      if following then
        following()
      end
    end
    done(...)
  end
  function go_on()
    tries = tries + 1
    cancel = usable_link(client, function(err, link)
      if over then
        return
      elseif err then
        return leave(err)
      end
      cancel = link:ask(method, params, function(problem, result)
        if problem and may_repeat(method, problem, tries) and not over then
          link:close()
          return go_on()
        end
        leave(problem, result)
      end)
    end)
  end
  local function enter()
    client.asked = client.asked + 1
    entered = true
    go_on()
  end
  if client.asked < IN_FLIGHT then
    enter()
  else
    table.insert(client.line, enter)
  end
  return function()
    for at, waiting in ipairs(client.line) do
      if waiting == enter then
        table.remove(client.line, at)
        break
      end
    end
    if cancel then
      cancel()
    end
    done = function() end
    leave()
  end
end

--- Ask; parameters that are nil are left out. `read(result)` turns it into `value, err`.
function Client:call(method, params, callback, read)
  local seconds = self.timeout or DEFAULT_TIMEOUT
  return run(
    within(seconds, function()
      return timed_out(seconds)
    end, function(done)
      return ask_shared(self, method, params or {}, function(err, result)
        if not err and read then
          result, err = read(result)
        end
        done(err, result)
      end)
    end),
    callback
  )
end

--- Ask on a connection of its own: `read(link, result)` turns it into `value, err`. Something at
--- all must have come after `patience.broker` seconds, the answer after `patience.answer`.
local function ask_apart(client, method, params, patience, callback, read)
  local link, stop_first, cancel_connect, over
  local function take_back()
    if not over then
      over = true
      stop_first()
      if cancel_connect then
        cancel_connect()
      end
      if link then
        client.apart[link] = nil
        link:close()
      end
    end
  end
  local function start(done)
    local function finish(err, value)
      if not over then
        if err then
          take_back()
        else
          over = true
          stop_first()
          client.apart[link] = nil
        end
        done(err, value)
      end
    end
    stop_first = after(patience.broker, function()
      if not (link and link.answered) then
        finish(timed_out(patience.broker))
      end
    end)
    cancel_connect = open_link(client, patience.greet, function(err, opened)
      link = opened
      cancel_connect = nil
      if over then
        return link and link:close()
      elseif err then
        return finish(err)
      end
      client.apart[link] = link
      link:ask(method, params, function(problem, result)
        local value
        if not problem then
          value, problem = read(link, result)
        end
        finish(problem, value)
      end)
    end)
    return take_back
  end
  return run(
    within(patience.answer, function()
      if not (link and link.answered) then
        return timed_out(patience.broker)
      end
      local message = ('no answer from GitHub Copilot within %g s'):format(patience.answer)
      return failure(7, 'timeout', message, 'Ask again, or give it a longer timeout', { retry_after = 1 })
    end, start),
    callback
  )
end

local function begin_stream(client, method, params, patience, callback, is_completion)
  return ask_apart(client, method, params, patience, callback, function(link, result)
    if type(result) ~= 'table' or not is_count(result.stream) then
      return nil, bad_answer(method .. ' does not stream')
    end
    local stream = new_stream(link, result)
    if is_completion then
      local head, err = head_of(result)
      if err then
        return nil, err
      end
      for name, value in pairs(head) do
        stream[name] = value
      end
    end
    client.apart[stream] = stream
    link.on_lost = function()
      client.apart[stream] = nil
    end
    return stream
  end)
end

--- Ask for a stream; returns once it has begun.
function Client:open_stream(method, params, callback)
  local seconds = self.timeout or DEFAULT_TIMEOUT
  return begin_stream(self, method, params or {}, { broker = seconds, answer = seconds }, callback)
end

local function map_of(method)
  return function(result)
    if not is_map(result) then
      return nil, bad_answer('the answer to ' .. method .. ' is no map')
    end
    return result
  end
end

local function value_of(method, key, kind)
  return function(result)
    local found = type(result) == 'table' and result[key]
    if type(found) ~= kind then
      return nil, bad_answer('the answer to ' .. method .. ' holds no ' .. key)
    end
    return found
  end
end

local function flag_of(method, key)
  return function(result)
    if not is_map(result) then
      return nil, bad_answer('the answer to ' .. method .. ' is no map')
    end
    return result[key] == true
  end
end

--- Name → method on the wire, what it cannot do without, its options, and how its result is read.
local METHODS = {
  token = { 'token.get', {}, { 'min_valid', 'account', 'reject' }, token_from, { min_valid = 60 } },
  model_list = { 'models.list', {}, { 'account', 'fresh' }, models_from },
  models = {
    'models.list',
    {},
    { 'account' },
    function(result)
      local list, err = models_from(result)
      return list and list.models, err
    end,
  },
  enable_model = { 'models.enable', { 'model' }, { 'account' }, value_of('models.enable', 'state', 'string') },
  status = { 'broker.status', {}, {} },
  refresh = { 'broker.refresh', {}, { 'account' } },
  accounts = { 'account.list', {}, {} },
  use = {
    'account.use',
    { 'account' },
    {},
    function()
      return true
    end,
  },
  logout = { 'account.logout', {}, { 'account', 'revoke' }, flag_of('account.logout', 'revoked') },
  lock = { 'broker.lock', {}, { 'passphrase' }, flag_of('broker.lock', 'changed') },
  grants = { 'grant.list', {}, {} },
  explain_grant = {
    'grant.explain',
    {},
    { 'pid', 'unit', 'label', 'sandbox', 'uid', 'gid', 'listener', 'key' },
  },
  doctor = { 'broker.doctor', {}, {} },
  quota = { 'quota.get', {}, { 'account', 'fresh', 'pat', 'tier' } },
  set_pat = { 'quota.set_pat', { 'pat' }, { 'account' } },
  forget_pat = { 'quota.forget_pat', {}, { 'account' } },
  usage_report = { 'usage.report', {}, { 'since', 'until', 'by', 'account' } },
  create_key = {
    'key.create',
    { 'name' },
    { 'models', 'account', 'requests_per_minute', 'budget', 'expires_in' },
  },
  keys = { 'key.list', {}, {}, value_of('key.list', 'keys', 'table') },
  lease_key = {
    'key.lease',
    { 'label' },
    { 'models', 'account', 'requests_per_minute', 'budget' },
  },
  mint_key = { 'key.mint', { 'label', 'models' }, { 'expires_in', 'account' } },
  revoke_key = { 'key.revoke', { 'name' }, {} },
}

--- Split a call's arguments into parameters and callback. Raises for an option that is not there.
local function arguments_of(needed, options, defaults, ...)
  local given, params = { ... }, vim.deepcopy(defaults or {})
  for at, name in ipairs(needed) do
    params[name] = given[at]
  end
  local named, callback = given[#needed + 1], given[#needed + 2]
  if type(named) == 'function' then
    named, callback = nil, named
  end
  for name, value in pairs(named or {}) do
    if not vim.tbl_contains(options, name) then
      error(('no such option: %s; there are: %s'):format(name, table.concat(options, ', ')), 3)
    end
    params[name] = value
  end
  return params, callback
end

for name, method in pairs(METHODS) do
  local wire, needed, options, read, defaults = unpack(method, 1, 5)
  Client[name] = function(client, ...)
    local params, callback = arguments_of(needed, options, defaults, ...)
    for _, flag in ipairs({ 'fresh', 'revoke' }) do
      params[flag] = params[flag] or nil -- false is as if it were not given
    end
    return client:call(wire, params, callback, read or map_of(wire))
  end
end

--- Tell name, version, features and what we may do.
function Client:hello(...)
  local _, callback = arguments_of({}, {}, nil, ...)
  return self:call('broker.hello', hello_params(self), callback, map_of('broker.hello'))
end

--- End the lock; waits fifteen seconds, for a wrong passphrase is answered late.
function Client:unlock(...)
  local params, callback = arguments_of({}, { 'passphrase' }, nil, ...)
  local seconds = self.timeout or UNLOCK_TIMEOUT
  local patience = { broker = seconds, answer = seconds }
  return ask_apart(self, 'broker.unlock', params, patience, callback, function(link, result)
    link:close()
    return flag_of('broker.unlock', 'changed')(result)
  end)
end

--- Follow an account: its full state at once, then each change.
function Client:watch(...)
  local params, callback = arguments_of({}, { 'account' }, nil, ...)
  return self:open_stream('token.watch', params, callback)
end

--- Sign in: the user code, progress and, at last, the account.
function Client:login(...)
  local options = { 'account', 'host', 'client_id', 'scope', 'store', 'token' }
  local params, callback = arguments_of({}, options, nil, ...)
  return self:open_stream('account.login', params, callback)
end

--- The parameters of a completion and its patience, or `nil, nil, err`.
local function completion_params(client, body, params, usual)
  local timeout = params.timeout or client.timeout
  params.timeout = nil
  if type(body) == 'table' then
    local good, text = pcall(vim.json.encode, body)
    body = good and text or nil
  end
  if type(body) ~= 'string' then
    return nil, nil, failure(2, 'bad_body', 'a body is text or a table that JSON can say', 'Change the request')
  elseif #body > MAX_BODY then
    local message = ('a body has at most %d bytes, this one %d'):format(MAX_BODY, #body)
    return nil, nil, failure(2, 'body_too_large', message, 'Shorten the prompt')
  end
  params.body = body
  if params.headers and next(params.headers) == nil then
    params.headers = nil -- Lua's empty table would travel as a list
  end
  return params, { broker = timeout or DEFAULT_TIMEOUT, answer = timeout or usual, greet = true }
end

local COMPLETION_OPTIONS = { 'path', 'account', 'headers', 'timeout' }
local COMPLETION_DEFAULTS = { path = '/chat/completions' }

local function refuse(err, callback)
  return run(function(done)
    done(err)
  end, callback)
end

--- Ask GitHub Copilot and wait for the whole answer; any status is an answer. A string is sent byte
--- for byte, a table as JSON.
function Client:complete(body, ...)
  local params, callback = arguments_of({}, COMPLETION_OPTIONS, COMPLETION_DEFAULTS, ...)
  local patience, err
  params, patience, err = completion_params(self, body, params, JSON_TIMEOUT)
  if err then
    return refuse(err, callback)
  end
  return ask_apart(self, 'completion.create', params, patience, callback, function(link, result)
    link:close()
    return completion_from(result)
  end)
end

--- Ask GitHub Copilot for an answer that comes in pieces; returns once it begins.
function Client:stream(body, ...)
  local params, callback = arguments_of({}, COMPLETION_OPTIONS, COMPLETION_DEFAULTS, ...)
  local patience, err
  params, patience, err = completion_params(self, body, params, FIRST_BYTE_TIMEOUT)
  if err then
    return refuse(err, callback)
  end
  params.stream = true
  return begin_stream(self, 'completion.create', params, patience, callback, true)
end

--- Close all connections and streams; the client may be used again.
function Client:close()
  for _, what in pairs(vim.tbl_extend('force', {}, self.apart)) do
    what:close()
  end
  self.apart = {}
  local opening, link = self.opening, self.link
  self.opening, self.link = nil, nil
  if opening then
    opening.cancel()
    for wait in pairs(opening.waits) do
      wait(connection_lost())
    end
  end
  if link then
    link:close()
  end
end

return M
