--- What an endpoint class serves: methods, the gateways they belong to, their
-- wire form, and the handlers that answer them.
--
-- A class speaks the gateway of its own name, which has every method, those of
-- the class it extends, and those of descriptions that it was given. One name
-- is one method in all of them. Everything here is worked out once a class and
-- kept in it; handlers again after a method of the class was replaced.

local core = require("orrery.core")
local errors = require("orrery.util.errors")
local native = require("orrery.native.service")

local M = {}

local ARGS_MAX = 32
local TYPES = {
  any = true, boolean = true, number = true, string = true, table = true,
  integer = true,
}

-- Signatures --------------------------------------------------------------

local function check_word(word, index)
  local kind, optional = tostring(word):match("^(%l+)(%??)$")
  if type(word) == "string" and TYPES[kind] then
    return { kind = kind, is_optional = optional ~= "" or kind == "any" }
  end
  return nil, string.format("args[%d] is one of any, boolean, integer, number,"
    .. " string, table, with ? behind it when it may be nil; got %s", index,
    tostring(word))
end

--- Reads the option `args`: a number, or a list of type words. Answers
-- { count = , types = or nil }, or nil, message.
function M.signature(args)
  if type(args) == "number" then
    if args < 0 or args > ARGS_MAX or args ~= math.floor(args) then
      return nil, "args is a whole number from 0 to " .. ARGS_MAX
    end
    return { count = args }
  end
  if type(args) ~= "table" or #args > ARGS_MAX then
    return nil, "args is a number of arguments or a list of at most "
      .. ARGS_MAX .. " types"
  end
  local types = {}
  for i, word in ipairs(args) do
    local t, message = check_word(word, i)
    if not t then return nil, message end
    types[i] = t
  end
  return { count = #types, types = types }
end

local function is_of(value, t)
  if value == nil then return t.is_optional end
  if t.kind == "any" then return true end
  if t.kind == "integer" then
    return type(value) == "number" and value == math.floor(value)
  end
  return type(value) == t.kind
end

local function bad(name, text)
  return nil, errors.new("bad_argument", name .. ": " .. text)
end

local function wrong_count(name, signature, n)
  return bad(name, string.format("%d argument%s needed, got %d",
    signature.count, signature.count == 1 and " is" or "s are", n))
end

-- The handler behind a check of what it was called with.
local function checked(name, fn, signature)
  local count, types = signature.count, signature.types
  if not types then
    return function(self, ...)
      local n = select("#", ...)
      if n ~= count then return wrong_count(name, signature, n) end
      return fn(self, ...)
    end
  end
  return function(self, ...)
    local n = select("#", ...)
    if n > count then return wrong_count(name, signature, n) end
    for i = 1, count do
      local value = (select(i, ...))
      if not is_of(value, types[i]) then
        return bad(name, string.format("argument %d must be %s %s, got %s", i,
          types[i].kind:match("^[aeiou]") and "an" or "a", types[i].kind,
          type(value)))
      end
    end
    return fn(self, ...)
  end
end

-- Joining -------------------------------------------------------------------

local FIELDS = { "tell", "control", "timeout_ms" }

local function differs(a, b)
  if b.permission ~= nil and a.permission ~= b.permission then
    return "permission"
  end
  for _, field in ipairs(FIELDS) do
    if a[field] ~= b[field] then return field end
  end
  return nil
end

local function add(known, method, from)
  local entry = known[method.name]
  if not entry then
    entry = {}
    for key, value in pairs(method) do entry[key] = value end
    entry.gateways, entry.from = {}, from
    known[method.name] = entry
  end
  entry.gateways[from] = true
  entry.signature = entry.signature or method.signature
  -- Whoever asks for a role is heard: a child cannot lose it.
  entry.permission = entry.permission or method.permission
  return entry
end

--- Joins method lists into one, ordered by name. parts: { name = gateway,
-- methods = list } in order of precedence; the first has every method. Answers
-- methods, gateways (list of names), or nil, message.
function M.join(parts)
  local known, gateways = {}, {}
  for i, part in ipairs(parts) do
    gateways[i] = part.name
    for _, method in ipairs(part.methods) do
      local entry = add(known, method, part.name)
      local field = differs(entry, method)
      -- The class may say more of a method than a gateway, not otherwise.
      if field and (field ~= "timeout_ms" or entry.from ~= parts[1].name) then
        return nil, string.format("method %q: gateways %s and %s differ in %s",
          method.name, entry.from, part.name,
          field == "control" and "lane" or field)
      end
    end
  end
  local list = {}
  for _, entry in pairs(known) do
    entry.gateways[parts[1].name] = true
    list[#list + 1] = entry
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list, gateways
end

-- Wire form -------------------------------------------------------------------

-- The gateways of a method in the order of the class; nil when all have it.
local function gateways_of(class, method)
  if not method.gateways then return nil end
  local names = {}
  for _, name in ipairs(class._gateways) do
    if method.gateways[name] then names[#names + 1] = name end
  end
  return #names < #class._gateways and names or nil
end

--- Wire form of the methods and the core's template of an endpoint: the same
-- for all of a class.
function M.wire(class)
  local known = rawget(class, "_wire")
  if known then return known end
  local list, control, permissions, is_guarded = {}, {}, {}, false
  for i, m in ipairs(class._methods) do
    list[i] = { m.name, m.timeout_ms, m.tell, m.control, m.modes }
    local gateways = not m.is_hidden and gateways_of(class, m)
    -- The fifth place is kept for what a method says of itself.
    if gateways then list[i][5], list[i][6] = false, gateways end
    control[i] = string.char(m.control and 1 or 0)
    permissions[i] = m.permission or ""
    is_guarded = is_guarded or m.permission ~= nil
  end
  known = {
    methods = list,
    template = native.template({
      methods = core.encode(list), control = table.concat(control),
      gateways = table.concat(class._gateways, " "),
      permissions = is_guarded and permissions or nil,
    }),
  }
  class._wire = known
  return known
end

-- Handlers --------------------------------------------------------------------

-- Functions of the class, and of those it extends, that no caller can reach.
local function unserved(class, hooks)
  local serves, seen, names = {}, {}, {}
  for _, m in ipairs(class._methods) do serves[m.name] = true end
  local at = class
  while at do
    for name, value in pairs(at) do
      if type(name) == "string" and type(value) == "function"
        and name:sub(1, 1) ~= "_" and not serves[name] and not hooks[name]
        and not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
    at = rawget(at, "_parent")
  end
  table.sort(names)
  return names
end

local function describe_missing(class, missing, extra)
  local hints = {}
  for _, name in ipairs(missing) do
    local near = errors.nearest(name, extra)
    if near then hints[#hints + 1] = near .. " for " .. name end
  end
  return string.format("class %s lacks the methods: %s%s", class._name,
    table.concat(missing, ", "), #hints == 0 and "" or " (it has "
      .. table.concat(hints, ", ") .. ", which no gateway names)")
end

local function check_arity(class, m, fn)
  local info = debug.getinfo(fn, "u")
  if not m.signature or info.isvararg then return nil end
  local takes = math.max(0, info.nparams - 1)
  if takes == m.signature.count then return nil end
  return string.format("%s.%s takes %d argument%s, its description says %d",
    class._name, m.name, takes, takes == 1 and "" or "s", m.signature.count)
end

local function is_current(class, known)
  if not known then return false end
  local raw = known.raw
  for i, m in ipairs(class._methods) do
    if raw[i] ~= class[m.name] then return false end
  end
  return true
end

--- Handlers by method id; one table for all endpoints of a class. Answers nil,
-- message when the class and its description do not fit.
function M.handlers(class, hooks)
  local known = rawget(class, "_handlers")
  if is_current(class, known) then return known end
  known = { handlers = {}, methods = {}, raw = {} }
  local missing = {}
  for i, m in ipairs(class._methods) do
    local fn = class[m.name]
    known.raw[i], known.methods[i - 1], known.handlers[i - 1] = fn, m, fn
    if type(fn) ~= "function" then
      missing[#missing + 1] = m.name
    elseif m.signature then
      local message = check_arity(class, m, fn)
      if message then return nil, message end
      known.handlers[i - 1] = checked(class._name .. "." .. m.name, fn,
        m.signature)
    end
  end
  local extra = (#missing > 0 or class._strict) and unserved(class, hooks)
  if #missing > 0 then return nil, describe_missing(class, missing, extra) end
  if class._strict and #extra > 0 then
    return nil, string.format("class %s is strict and has public functions "
      .. "that no gateway names: %s; begin helpers with _", class._name,
      table.concat(extra, ", "))
  end
  class._handlers = known
  return known
end

return M
