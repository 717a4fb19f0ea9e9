-- The methods that are one call: the client's name of each, that on the wire, what it cannot do
-- without, its options, and how its answer is read (as a map, unless said otherwise).

local models_from = require('copilot_broker.models')
local reading = require('copilot_broker.reading')
local token_from = require('copilot_broker.token')

return {
  token = {
    wire = 'token.get',
    options = { 'min_valid', 'account', 'reject' },
    defaults = { min_valid = 60 },
    read = token_from,
  },
  model_list = { wire = 'models.list', options = { 'account', 'fresh' }, read = models_from },
  models = {
    wire = 'models.list',
    options = { 'account' },
    read = function(result)
      local list, err = models_from(result)
      return list and list.models, err
    end,
  },
  enable_model = {
    wire = 'models.enable',
    needed = { 'model' },
    options = { 'account' },
    read = reading.value_of('models.enable', 'state', 'string'),
  },
  status = { wire = 'broker.status' },
  refresh = { wire = 'broker.refresh', options = { 'account' } },
  accounts = { wire = 'account.list' },
  use = { wire = 'account.use', needed = { 'account' }, read = reading.done },
  logout = {
    wire = 'account.logout',
    options = { 'account', 'revoke' },
    read = reading.flag_of('account.logout', 'revoked'),
  },
  lock = {
    wire = 'broker.lock',
    options = { 'passphrase' },
    read = reading.flag_of('broker.lock', 'changed'),
  },
  grants = { wire = 'grant.list' },
  explain_grant = {
    wire = 'grant.explain',
    options = { 'pid', 'unit', 'label', 'sandbox', 'uid', 'gid', 'listener', 'key' },
  },
  doctor = { wire = 'broker.doctor' },
  quota = { wire = 'quota.get', options = { 'account', 'fresh', 'pat', 'tier' } },
  set_pat = { wire = 'quota.set_pat', needed = { 'pat' }, options = { 'account' } },
  forget_pat = { wire = 'quota.forget_pat', options = { 'account' } },
  usage_report = { wire = 'usage.report', options = { 'since', 'until', 'by', 'account' } },
  create_key = {
    wire = 'key.create',
    needed = { 'name' },
    options = { 'models', 'account', 'requests_per_minute', 'budget', 'expires_in' },
  },
  keys = { wire = 'key.list', read = reading.value_of('key.list', 'keys', 'table') },
  lease_key = {
    wire = 'key.lease',
    needed = { 'label' },
    options = { 'models', 'account', 'requests_per_minute', 'budget' },
  },
  mint_key = {
    wire = 'key.mint',
    needed = { 'label', 'models' },
    options = { 'expires_in', 'account' },
  },
  revoke_key = { wire = 'key.revoke', needed = { 'name' } },
}
