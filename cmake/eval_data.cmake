# The questions that are embedded in the library (src/eval/mmlu_pro.c includes them with .incbin).
set(EV_MMLU_PRO_DIR ${CMAKE_SOURCE_DIR}/data/mmlu_pro)
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/eval/mmlu_pro.c PROPERTIES
  COMPILE_DEFINITIONS "EV_MMLU_PRO_DIR=\"${EV_MMLU_PRO_DIR}\""
  OBJECT_DEPENDS "${EV_MMLU_PRO_DIR}/test.jsonl.zst;${EV_MMLU_PRO_DIR}/validation.jsonl.zst")
