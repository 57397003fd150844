# Shared by the scripts: where the project is, how to speak. Sourced by bash.
# Sets ROOT. All scripts work from any folder.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PRESETS="debug release asan ubsan tsan"

say() { printf '%s\n' "$*" >&2; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The sanitizers are told what to do in one place. Freed memory of LuaJIT is
# never seen by them: it has its own allocator.
sanitizer_environment() {
  local supp="$ROOT/scripts/sanitizers"
  export ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=86"
  ASAN_OPTIONS+=":detect_stack_use_after_return=1:strict_string_checks=1"
  export LSAN_OPTIONS="suppressions=$supp/lsan.supp:print_suppressions=0"
  LSAN_OPTIONS+=":exitcode=86"
  export UBSAN_OPTIONS="print_stacktrace=1:suppressions=$supp/ubsan.supp"
  export TSAN_OPTIONS="suppressions=$supp/tsan.supp:exitcode=86"
  TSAN_OPTIONS+=":second_deadlock_stack=1:history_size=4"
}

# The thread sanitizer of gcc 12 needs a fixed memory layout on kernels that
# randomize more bits than it knows of.
layout_prefix() {
  if [ "$1" = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then
    printf 'setarch %s -R' "$(uname -m)"
  fi
}

known_preset() {
  case " $PRESETS " in
    *" $1 "*) return 0 ;;
  esac
  return 1
}
