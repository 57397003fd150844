--- Paths into lists of files: the file source asks this on the client.
--
-- Folders are walked in the order of the names, so that a plan is the same each
-- time. Links to files are read as files; links to folders are not followed
-- (they could lead round in a circle). Blocking calls: client only.

local errors = require("orrery.util.errors")

local M = {}

local FILES_MAX = 15000
local DEPTH_MAX = 64

local function refuse(path, why)
  return nil, errors.new("job_invalid", string.format("cannot read %s: %s",
    path, why))
end

local function children(uv, path)
  local handle, err = uv.fs_scandir(path)
  if not handle then return refuse(path, err) end
  local names = {}
  while true do
    local name = uv.fs_scandir_next(handle)
    if not name then break end
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local function walk(uv, list, path, depth, named)
  local stat, err = uv.fs_stat(path)
  if not stat then
    if not named then return true end -- a dangling link inside a folder
    return refuse(path, err)
  end
  if stat.type == "file" then
    if #list >= FILES_MAX then
      return refuse(path, string.format("there are more than %d files",
        FILES_MAX))
    end
    local ok, why = uv.fs_access(path, "R")
    if not ok then return refuse(path, why or "permission denied") end
    list[#list + 1] = { path = path, size = stat.size }
    return true
  end
  if stat.type ~= "directory" then
    if not named then return true end
    return refuse(path, "it is a " .. stat.type .. ", not a file or a folder")
  end
  if not named and uv.fs_lstat(path).type == "link" then return true end
  if depth > DEPTH_MAX then
    return refuse(path, string.format("folders are nested deeper than %d",
      DEPTH_MAX))
  end
  local names
  names, err = children(uv, path)
  if not names then return nil, err end
  for _, name in ipairs(names) do
    local ok
    ok, err = walk(uv, list, path:gsub("/+$", "") .. "/" .. name, depth + 1)
    if not ok then return nil, err end
  end
  return true
end

--- Files below the paths: array of { path, size } with absolute paths, or nil,
-- err.
function M.find(paths)
  local uv = require("luv")
  local list = {}
  for _, path in ipairs(paths) do
    local absolute = path:sub(1, 1) == "/" and path
      or (uv.cwd() .. "/" .. path)
    local ok, err = walk(uv, list, absolute, 1, true)
    if not ok then return nil, err end
  end
  return list
end

return M
