-- The client library of copilot-broker for Neovim: tokens and completions from this session's
-- broker. No dependency, Neovim 0.7 or newer; put the folder where `require` finds it.
--
--   local broker = require('copilot_broker').Client.new({ name = 'my-plugin' })
--   local token, err = broker:token({ min_valid = 300 })          -- waits
--   broker:token({ min_valid = 300 }, function(err, token) end)   -- does not
--
-- The names are those of the Python client. What a method cannot do without is an argument, all
-- else is in one table under its Python name, and a function at the end makes it a call that does
-- not wait. Errors are returned: `tostring(err)` is one line that ends in what mends it.
--
-- Requires go one way: client → links → dial → link → messages, scan; client → shared, apart →
-- stream → taking → sse, text; client → methods → token, models. All may use errors, limits, values.

return {
  Client = require('copilot_broker.client'),
  ErrorClass = require('copilot_broker.errors').ErrorClass,
}
