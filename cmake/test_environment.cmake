# Where every test finds its data: unpacked from tests/data into the build folder by the fixture "testdata".
set(LM_TEST_DATA "${CMAKE_BINARY_DIR}/testdata")
# Data that may not be redistributed is used where it lies beside the checkout, in a folder named "shared".
get_filename_component(LM_TEST_EXTRA "${CMAKE_SOURCE_DIR}" DIRECTORY)
set(LM_TEST_EXTRA "${LM_TEST_EXTRA}/shared")

add_test(NAME testdata.unpack
  COMMAND ${CMAKE_COMMAND} -DARCHIVES=${CMAKE_SOURCE_DIR}/tests/data -DOUT=${LM_TEST_DATA} -DEXTRA=${LM_TEST_EXTRA}
          -P ${CMAKE_SOURCE_DIR}/cmake/testdata.cmake)
set_tests_properties(testdata.unpack PROPERTIES FIXTURES_SETUP testdata TIMEOUT 300)

# Sanitized kernels are plain loops: models are ten and more times slower there.
set(LM_TEST_TIMEOUT 600)
if(LM_SANITIZE)
  set(LM_TEST_TIMEOUT 1800)
endif()

# lm_test(NAME TARGET-OR-COMMAND...): a test that runs after the data is there, with LM_TEST_DATA set.
function(lm_test name)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED testdata TIMEOUT ${LM_TEST_TIMEOUT}
    ENVIRONMENT "LM_TEST_DATA=${LM_TEST_DATA};LM_TEST_EXTRA=${LM_TEST_EXTRA};ASAN_OPTIONS=detect_leaks=1:abort_on_error=0;UBSAN_OPTIONS=print_stacktrace=1;TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1")
endfunction()

# lm_test_program(NAME SOURCES...): a cmocka program that may include any inner header.
function(lm_test_program name)
  add_executable(${name} ${ARGN})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE LM_TEST_DATA="${LM_TEST_DATA}")
  target_link_libraries(${name} PRIVATE mlxlm PkgConfig::CMOCKA)
endfunction()
