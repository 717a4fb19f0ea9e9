-- The models that an account may use, as the broker knows them.

local errors = require('copilot_broker.errors')
local values = require('copilot_broker.values')

--- The list in an answer to models.list: `list, err`.
return function(result)
  local models = type(result) == 'table' and result.models
  local good = type(models) == 'table' and values.is_list(models)
  for _, model in ipairs(good and models or {}) do
    good = good and type(model) == 'table'
  end
  if not good then
    return nil, errors.bad_answer('the answer to models.list holds no models', errors.RESTART_HINT)
  end
  local failed = values.given(result.error)
  return {
    models = models,
    account = values.text_or(result.account, ''),
    age = values.number_in(result.age) or 0,
    failure = failed ~= nil and errors.error_from(failed) or nil,
  }
end
