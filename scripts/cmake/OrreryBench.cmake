# The programs that our figures stand beside: raw baselines, which use the bare
# primitives to show what the machine can do, and those that use the C core
# without Lua.

function(orr_add_bench source)
  cmake_path(GET source STEM name)
  add_executable(${name} "${source}")
  target_link_libraries(${name} PRIVATE orrery_flags Threads::Threads ${ARGN})
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bench")
endfunction()

file(GLOB orr_bench_raw CONFIGURE_DEPENDS
  "${CMAKE_CURRENT_SOURCE_DIR}/spec/bench/raw/*.c")
foreach(source IN LISTS orr_bench_raw)
  orr_add_bench("${source}" PkgConfig::LIBUV PkgConfig::LIBSSL
    PkgConfig::LIBCRYPTO PkgConfig::HIREDIS)
endforeach()

file(GLOB orr_bench_core CONFIGURE_DEPENDS
  "${CMAKE_CURRENT_SOURCE_DIR}/spec/bench/core/*.c")
foreach(source IN LISTS orr_bench_core)
  orr_add_bench("${source}" orrery)
endforeach()
