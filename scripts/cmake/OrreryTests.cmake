# C tests: each spec/c/*_test.c is a cmocka program of its own. Fuzz targets:
# each spec/fuzz/*_fuzz.c replays its corpus as a test, or is a libFuzzer
# program with ORR_FUZZ=ON.

set(orr_spec "${CMAKE_CURRENT_SOURCE_DIR}/spec")
# Sanitized and loaded machines are slow; a test that hangs still ends.
set(orr_test_timeout 120)

function(orr_test_program name output)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE orrery orrery_flags Threads::Threads)
  # These hold our scanner beside the reader that it guards.
  if(name MATCHES "^(redis|resp)_")
    target_link_libraries(${name} PRIVATE PkgConfig::HIREDIS)
  endif()
  target_include_directories(${name} PRIVATE
    "${CMAKE_CURRENT_SOURCE_DIR}/src" "${orr_spec}/c")
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/${output}")
endfunction()

file(GLOB orr_test_sources CONFIGURE_DEPENDS "${orr_spec}/c/*_test.c")
if(NOT orr_test_sources)
  message(STATUS "Skipped: no C tests in spec/c")
endif()
if(ORR_FUZZ)
  # Such a build is for the fuzz targets alone.
  set(orr_test_sources "")
endif()
foreach(source IN LISTS orr_test_sources)
  cmake_path(GET source STEM name)
  # The tests of the host need a Lua of their own.
  if(name MATCHES "^host_" AND NOT TARGET orrery_host)
    message(STATUS "Skipped: ${name} needs src/host")
    continue()
  endif()
  orr_test_program(${name} spec "${source}")
  target_link_libraries(${name} PRIVATE PkgConfig::CMOCKA)
  if(name MATCHES "^tls_")
    target_link_libraries(${name} PRIVATE PkgConfig::LIBSSL
      PkgConfig::LIBCRYPTO)
  endif()
  if(name MATCHES "^host_")
    target_link_libraries(${name} PRIVATE orrery_host PkgConfig::LUAJIT)
    set_target_properties(${name} PROPERTIES ENABLE_EXPORTS ON)
  endif()
  add_test(NAME ${name} COMMAND ${name}
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES
    TIMEOUT ${orr_test_timeout} ENVIRONMENT "CMOCKA_MESSAGE_OUTPUT=TAP")
endforeach()

file(GLOB orr_fuzz_sources CONFIGURE_DEPENDS "${orr_spec}/fuzz/*_fuzz.c")
if(NOT orr_fuzz_sources)
  message(STATUS "Skipped: no fuzz targets in spec/fuzz")
endif()
foreach(source IN LISTS orr_fuzz_sources)
  cmake_path(GET source STEM name)
  string(REGEX REPLACE "_fuzz$" "" corpus "${name}")
  set(corpus "${orr_spec}/fuzz/corpus/${corpus}")
  if(ORR_FUZZ)
    orr_test_program(${name} fuzz "${source}")
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    continue()
  endif()
  orr_test_program(${name} fuzz "${source}"
    "${orr_spec}/fuzz/standalone_main.c")
  if(NOT IS_DIRECTORY "${corpus}")
    message(FATAL_ERROR "The fuzz target ${name} has no corpus: "
      "put at least one file into ${corpus}")
  endif()
  add_test(NAME ${name} COMMAND ${name} "${corpus}")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${orr_test_timeout})
endforeach()
