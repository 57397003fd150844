# liborrery.so: every layer below the host, and the text of the declarations.

set(orr_core_sources "")
foreach(layer base wire exec loop net sim redis lease blob)
  file(GLOB found CONFIGURE_DEPENDS
    "${CMAKE_CURRENT_SOURCE_DIR}/src/${layer}/*.c")
  if(found)
    list(APPEND orr_core_sources ${found})
  else()
    message(STATUS "Skipped: no sources in src/${layer}")
  endif()
endforeach()

add_library(orrery SHARED ${orr_core_sources} "${ORR_CDEF_SOURCE}")
target_include_directories(orrery
  PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/src/include"
  PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/src")
target_link_libraries(orrery
  PRIVATE orrery_flags PkgConfig::LIBSSL PkgConfig::LIBCRYPTO
    PkgConfig::HIREDIS
  PUBLIC PkgConfig::LIBUV Threads::Threads m)
# One file and its soname; liborrery.so is a link for compilers. Whoever has
# loaded orrery.core gets the same library by dlopen of the soname.
set_target_properties(orrery PROPERTIES SOVERSION ${PROJECT_VERSION_MAJOR})
if(NOT ORR_SANITIZE)
  target_link_options(orrery PRIVATE LINKER:-z,defs)
endif()
if(ORR_ROCK)
  # LuaRocks copies links as files: a second library.
  install(TARGETS orrery
    LIBRARY DESTINATION ${ORR_CLUADIR} NAMELINK_SKIP)
else()
  install(TARGETS orrery DESTINATION lib)
endif()
