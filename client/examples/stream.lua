local answers, path = {}, vim.env.XDG_RUNTIME_DIR .. '/copilot-broker/broker.sock'
local broker = vim.fn.sockconnect('pipe', path, { rpc = true })
function _G.copilot_told(_, it) -- stream.data {stream, seq, chunk}, at last stream.end {stream, error?, refusal?}
  local a, chunk = answers[it.stream], it.chunk or ''
  vim.rpcnotify(broker, 'stream.credit', { stream = it.stream, bytes = #chunk })
  a.rest = (a.rest .. chunk):gsub('data: ({[^\n]*})\r?\n', function(event) -- those that are there as a whole
    local text = vim.tbl_get(vim.json.decode(event), 'choices', 1, 'delta', 'content')
    return '', type(text) == 'string' and table.insert(a.text, text)
  end)
  local why = (a.refusal or a.status ~= 200 and a.rest or '') .. (it.error or it.refusal or '')
  vim.api.nvim_buf_set_lines(a.buffer, 0, -1, true, vim.split(table.concat(a.text) .. why, '\n'))
end
vim.rpcrequest(broker, 'broker.hello', { errors = 'text', notify = { 'nvim_exec_lua', { 'copilot_told(...)' } } })
vim.api.nvim_create_user_command('Ask', function(asked) -- :Ask QUESTION; Ctrl-C in the answer's window stops it
  local body = { model = vim.g.copilot_model, stream = true, messages = { { role = 'user', content = asked.args } } }
  local a = vim.rpcrequest(broker, 'completion.create', { body = vim.json.encode(body), stream = true })
  vim.cmd('new | setlocal buftype=nofile')
  a.buffer, a.text, a.rest, answers[a.stream] = vim.api.nvim_get_current_buf(), {}, '', a
  vim.keymap.set('n', '<C-c>', function() vim.rpcnotify(broker, 'stream.cancel', { stream = a.stream }) end, { buffer = a.buffer })
end, { nargs = '+' })
