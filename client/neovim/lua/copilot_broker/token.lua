-- A token; however it is shown, the id is there and `token.token`, the secret, is not.

local lacking = require('copilot_broker.errors').lacking
local masked = require('copilot_broker.masked')
local values = require('copilot_broker.values')

local NEEDED = {
  token = 'string',
  expires_at = 'number',
  expires_in = 'number',
  api_base = 'string',
  account = 'string',
  token_id = 'string',
}

--- The token in an answer to token.get: `token, err`.
return function(result)
  local shown = {}
  for name, kind in pairs(NEEDED) do
    if type(result) ~= 'table' or type(result[name]) ~= kind then
      return nil, lacking('token')
    end
    shown[name] = result[name]
  end
  local kept = { token = shown.token }
  shown.token = nil
  shown.clamped = result.clamped == true
  shown.headers = type(result.headers) == 'table' and result.headers or {}
  shown.completions_base = values.text_or(result.completions_base, '')
  shown.cooldown_until = values.number_in(result.cooldown_until)
  return masked(shown, kept, ('Token(token_id=%s account=%s)'):format(shown.token_id, shown.account))
end
