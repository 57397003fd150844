# Finds what Orrery stands on. Everything that is missing is told at once, with
# the names of the Debian packages.

set(orr_missing "")
set(orr_missing_packages "")

macro(orr_miss what package)
  string(APPEND orr_missing "  ${what}  (Debian package ${package})\n")
  string(APPEND orr_missing_packages " ${package}")
endmacro()

macro(orr_refuse_if_missing)
  if(orr_missing)
    message(FATAL_ERROR "Orrery cannot be built here; missing:\n"
      "${orr_missing}"
      "On Debian or Ubuntu:\n  apt-get install${orr_missing_packages}")
  endif()
endmacro()

find_program(PKG_CONFIG_EXECUTABLE NAMES pkgconf pkg-config)
if(NOT PKG_CONFIG_EXECUTABLE)
  orr_miss("pkg-config" pkgconf)
  orr_refuse_if_missing()
endif()
find_package(PkgConfig REQUIRED)

# orr_find(<prefix> <module> <version> <Debian package>): target PkgConfig::...
macro(orr_find prefix module version package)
  pkg_check_modules(${prefix} QUIET IMPORTED_TARGET "${module}>=${version}")
  if(${prefix}_FOUND)
    message(STATUS "Found ${module} ${${prefix}_VERSION}")
  else()
    orr_miss("${module} >= ${version}" ${package})
  endif()
endmacro()

orr_find(LUAJIT luajit 2.1 libluajit-5.1-dev)
orr_find(LIBUV libuv 1.44 libuv1-dev)
orr_find(LIBCRYPTO libcrypto 3.0 libssl-dev)
orr_find(LIBSSL libssl 3.0 libssl-dev)
orr_find(HIREDIS hiredis 0.14.1 libhiredis-dev)

# The .pc file of luv asks for PUC Lua 5.1, which must not be in a process
# together with LuaJIT. So the header and the library are found by hand; the
# variables of the file say where.
pkg_get_variable(orr_luv_include lua5.1-luv includedir)
pkg_get_variable(orr_luv_lib lua5.1-luv libdir)
find_path(LUV_INCLUDE_DIR luv/luv.h
  HINTS ${orr_luv_include} PATH_SUFFIXES lua5.1 luajit-2.1)
find_library(LUV_LIBRARY NAMES lua5.1-luv luv HINTS ${orr_luv_lib})
if(LUV_INCLUDE_DIR AND LUV_LIBRARY)
  message(STATUS "Found luv: ${LUV_LIBRARY}")
else()
  orr_miss("luv for Lua 5.1 (luv/luv.h, liblua5.1-luv.so)" lua-luv-dev)
endif()

find_program(LUAJIT_EXECUTABLE luajit)
if(NOT LUAJIT_EXECUTABLE)
  orr_miss("the program luajit" luajit)
endif()

if(ORR_TESTS)
  orr_find(CMOCKA cmocka 1.1 libcmocka-dev)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

orr_refuse_if_missing()

# Headers of LuaJIT and luv, without any library: for code that a program with
# a Lua already in it will load.
add_library(orrery_lua_headers INTERFACE)
target_include_directories(orrery_lua_headers SYSTEM INTERFACE
  ${LUAJIT_INCLUDE_DIRS} ${LUV_INCLUDE_DIR})
