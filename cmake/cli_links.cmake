# Links beside the executable, one a command as mlx-lm installs them, and "mlx" for its version. Also what
# `mlx_lm --version --json` says about the build.
set(LM_CLI_NAMES benchmark cache_prompt chat convert evaluate fuse generate lora manage perplexity awq dwq
  dynamic_quant gptq server upload share kernels logits render tokenize)
set(link_commands "")
foreach(name ${LM_CLI_NAMES})
  list(APPEND link_commands COMMAND ${CMAKE_COMMAND} -E create_symlink mlx_lm $<TARGET_FILE_DIR:mlx_lm>/mlx_lm.${name})
endforeach()
list(APPEND link_commands COMMAND ${CMAKE_COMMAND} -E create_symlink mlx_lm $<TARGET_FILE_DIR:mlx_lm>/mlx)
add_custom_command(TARGET mlx_lm POST_BUILD ${link_commands} VERBATIM)

string(TOUPPER "${CMAKE_BUILD_TYPE}" build_type_upper)
string(STRIP "${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${build_type_upper}}" build_flags)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  string(APPEND build_flags " -O2") # of lm_flags, behind CMake's own
endif()
if(LM_SANITIZE)
  string(APPEND build_flags " -fsanitize=${LM_SANITIZE}")
endif()
set_source_files_properties(${CMAKE_SOURCE_DIR}/cli/main.c PROPERTIES COMPILE_DEFINITIONS
  "LM_BUILD_TYPE=\"${CMAKE_BUILD_TYPE}\";LM_BUILD_FLAGS=\"${build_flags}\"")
