-- What a completion, or one event of a stream, says: its text, or that it is an error. The shapes
-- are those of chat completions, of Responses and of Messages.

local values = require('copilot_broker.values')

local M = {}

-- Types of events that are errors, with or without a field `error` (Responses, Messages).
local FAILED = { ['error'] = true, ['response.failed'] = true }

function M.is_error(event)
  return values.given(event.error) and true or FAILED[event.type] or false
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
  if values.is_map(delta) then
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

--- What it adds to the first choice's text, '' where nothing.
function M.text_in(event)
  local choices = values.given(event.choices)
  if choices == nil then
    return text_without_choices(event)
  end
  for position, choice in ipairs(type(choices) == 'table' and choices or {}) do
    local index = type(choice) == 'table' and choice.index
    if index == nil then
      index = position - 1
    end
    if index == 0 or index == vim.NIL then
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

return M
