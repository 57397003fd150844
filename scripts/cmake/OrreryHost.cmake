# The host: bin/orrery with LuaJIT in it, and the Lua module orrery.core for a
# luajit that is there already. Both are made of the same objects.

file(GLOB orr_host_sources CONFIGURE_DEPENDS
  "${CMAKE_CURRENT_SOURCE_DIR}/src/host/*.c")
set(orr_host_main "${CMAKE_CURRENT_SOURCE_DIR}/src/host/main.c")
list(REMOVE_ITEM orr_host_sources "${orr_host_main}")
if(NOT orr_host_sources)
  message(STATUS "Skipped: no sources in src/host, so no bin/orrery")
  return()
endif()

add_library(orrery_host_objects OBJECT ${orr_host_sources})
target_link_libraries(orrery_host_objects
  PUBLIC orrery_lua_headers orrery
  PRIVATE orrery_flags)
target_include_directories(orrery_host_objects
  PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/src")
# An executable in <prefix>/bin finds its modules beside itself; one in the
# build tree takes them from the checkout.
target_compile_definitions(orrery_host_objects PUBLIC
  ORR_VERSION="${PROJECT_VERSION}"
  ORR_INSTALL_LUADIR="../share/lua/5.1"
  ORR_INSTALL_CLUADIR="../lib/lua/5.1"
  ORR_SOURCE_LUADIR="${CMAKE_CURRENT_SOURCE_DIR}/lua"
  ORR_BUILD_CLUADIR="${CMAKE_BINARY_DIR}/lua")

add_library(orrery_host STATIC $<TARGET_OBJECTS:orrery_host_objects>)
target_link_libraries(orrery_host PUBLIC orrery_lua_headers orrery
  "${LUV_LIBRARY}")
target_include_directories(orrery_host PUBLIC
  "${CMAKE_CURRENT_SOURCE_DIR}/src")
target_compile_definitions(orrery_host PUBLIC
  $<TARGET_PROPERTY:orrery_host_objects,INTERFACE_COMPILE_DEFINITIONS>)

# From lib/lua/5.1/orrery to lib; in a rock the library is one folder up.
if(ORR_ROCK)
  set(orr_core_rpath "$ORIGIN/..")
  set(orr_bin_rpath "$ORIGIN/../lib/lua/5.1")
else()
  set(orr_core_rpath "$ORIGIN/../../..")
  set(orr_bin_rpath "$ORIGIN/../lib")
endif()

# No LuaJIT is linked: its symbols are those of the program that loads it.
add_library(orrery_core_module MODULE $<TARGET_OBJECTS:orrery_host_objects>)
target_link_libraries(orrery_core_module
  PRIVATE orrery "${LUV_LIBRARY}" orrery_flags)
set_target_properties(orrery_core_module PROPERTIES
  OUTPUT_NAME core PREFIX "" SUFFIX .so
  LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lua/orrery"
  INSTALL_RPATH "${orr_core_rpath}")
install(TARGETS orrery_core_module DESTINATION ${ORR_CLUADIR}/orrery)

if(NOT EXISTS "${orr_host_main}")
  message(STATUS "Skipped: no src/host/main.c, so no bin/orrery")
  return()
endif()
add_executable(orrery_main "${orr_host_main}")
target_link_libraries(orrery_main PRIVATE orrery_host orrery_flags
  PkgConfig::LUAJIT)
# ENABLE_EXPORTS is -rdynamic: C modules take lua_* from this process.
set_target_properties(orrery_main PROPERTIES
  OUTPUT_NAME orrery ENABLE_EXPORTS ON
  INSTALL_RPATH "${orr_bin_rpath}")
install(TARGETS orrery_main DESTINATION ${ORR_BINDIR})
