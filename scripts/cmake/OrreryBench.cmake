# Raw baselines: small programs that use the bare primitives, so that our
# figures stand beside what the machine can do.

file(GLOB orr_bench_sources CONFIGURE_DEPENDS
  "${CMAKE_CURRENT_SOURCE_DIR}/spec/bench/raw/*.c")
foreach(source IN LISTS orr_bench_sources)
  cmake_path(GET source STEM name)
  add_executable(${name} "${source}")
  target_link_libraries(${name} PRIVATE orrery_flags PkgConfig::LIBUV
    PkgConfig::LIBSSL PkgConfig::LIBCRYPTO
    Threads::Threads)
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bench")
endforeach()
