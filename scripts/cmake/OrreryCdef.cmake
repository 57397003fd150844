# The shared declarations of the public headers as a C file: orr_cdef() and
# orr_abi(). The order is part of the contract.

set(orr_cdef_headers "")
foreach(name base wire exec loop net redis lease sim)
  set(path "${CMAKE_CURRENT_SOURCE_DIR}/src/include/orrery/${name}.h")
  # A glob, so that a header that comes or goes makes CMake run again.
  file(GLOB found CONFIGURE_DEPENDS "${path}")
  if(found)
    list(APPEND orr_cdef_headers "${path}")
  else()
    message(STATUS "Skipped: no src/include/orrery/${name}.h")
  endif()
endforeach()

file(MAKE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/generated")
set(ORR_CDEF_SOURCE "${CMAKE_CURRENT_BINARY_DIR}/generated/cdef.c")
set(orr_gen_cdef "${CMAKE_CURRENT_SOURCE_DIR}/scripts/gen_cdef.lua")
add_custom_command(
  OUTPUT "${ORR_CDEF_SOURCE}"
  COMMAND "${LUAJIT_EXECUTABLE}" "${orr_gen_cdef}" c "${ORR_CDEF_SOURCE}"
    ${orr_cdef_headers}
  DEPENDS "${orr_gen_cdef}" ${orr_cdef_headers}
  COMMENT "Joining the shared declarations"
  VERBATIM)
