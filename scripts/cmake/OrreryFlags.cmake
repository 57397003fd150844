# Compiler and linker flags, by way of the interface library orrery_flags.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# Asserts stay on in every build type, so NDEBUG is never defined.
set(CMAKE_C_FLAGS_DEBUG "-O0 -g")
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug or Release" FORCE)
endif()

add_library(orrery_flags INTERFACE)
# POSIX is there for all; a file that needs more of the GNU library defines
# _GNU_SOURCE at its top.
target_compile_definitions(orrery_flags INTERFACE _DEFAULT_SOURCE=1)
target_compile_options(orrery_flags INTERFACE
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
  -Wpointer-arith -Wundef -Wvla -Wformat=2
  -fno-common -fno-omit-frame-pointer)
if(ORR_WERROR)
  target_compile_options(orrery_flags INTERFACE -Werror)
endif()

if(ORR_HARDEN)
  if(ORR_SANITIZE)
    message(FATAL_ERROR "ORR_HARDEN and ORR_SANITIZE exclude each other: "
      "_FORTIFY_SOURCE hides faults from the sanitizers.")
  endif()
  include(CheckPIESupported)
  check_pie_supported(LANGUAGES C)
  target_compile_options(orrery_flags INTERFACE
    -fstack-protector-strong -fstack-clash-protection)
  if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
    # It needs an optimizing build.
    target_compile_definitions(orrery_flags INTERFACE _FORTIFY_SOURCE=2)
  endif()
  target_link_options(orrery_flags INTERFACE
    LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)
endif()

set(orr_known_sanitizers address undefined thread)
if(ORR_SANITIZE)
  if(NOT ORR_SANITIZE IN_LIST orr_known_sanitizers)
    message(FATAL_ERROR "ORR_SANITIZE is \"${ORR_SANITIZE}\"; it may be "
      "address, undefined or thread.")
  endif()
  target_compile_options(orrery_flags INTERFACE -O1
    -fsanitize=${ORR_SANITIZE})
  target_link_options(orrery_flags INTERFACE -fsanitize=${ORR_SANITIZE})
  if(ORR_SANITIZE STREQUAL "undefined")
    target_compile_options(orrery_flags INTERFACE -fno-sanitize-recover=all)
    target_link_options(orrery_flags INTERFACE -fno-sanitize-recover=all)
  endif()
endif()

if(ORR_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "ORR_FUZZ=ON needs clang: "
      "cmake --preset debug -DCMAKE_C_COMPILER=clang -DORR_FUZZ=ON "
      "(Debian: apt-get install clang)")
  endif()
  # The library counts edges; only the fuzz targets bring the driver.
  target_compile_options(orrery_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
