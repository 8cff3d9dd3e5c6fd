# The headers that attention by cuDNN is compiled with: cuDNN's own, its frontend's and nvrtc.h, which
# the frontend includes. Looked for in the folders given, in Python's packages (under pip's build
# isolation those that pyproject.toml asks for), in the toolkit and where the system has headers.
# Sets TEMPRA_CUDNN_FOUND, TEMPRA_CUDNN_INCLUDE_DIRECTORIES and TEMPRA_CUBLAS_INCLUDE_DIRECTORY; and for
# the tests TEMPRA_NVIDIA_LIBRARY_FOLDERS, where Python's packages have the libraries.
set(TEMPRA_CUDA_CUDNN AUTO CACHE STRING
    "Attention by cuDNN: ON (its headers must be found), OFF, or AUTO: where its headers are found")
set_property(CACHE TEMPRA_CUDA_CUDNN PROPERTY STRINGS AUTO ON OFF)

set(TEMPRA_NVIDIA_LIBRARY_FOLDERS)
# The one that builds (scikit-build-core names it), or the one that PATH names: CMake's own search
# would rather take the newest.
set(python ${Python_EXECUTABLE})
if(NOT python)
  find_program(TEMPRA_PYTHON python3)
  set(python ${TEMPRA_PYTHON})
endif()
set(python_folders)
if(python)
  execute_process(
      COMMAND ${python} -c "import sys; print(';'.join(p for p in sys.path if p))"
      OUTPUT_VARIABLE python_folders OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
set(hints)
foreach(folder ${python_folders})
  list(APPEND hints ${folder}/include ${folder}/nvidia/cudnn/include ${folder}/nvidia/cu13/include)
  foreach(libraries ${folder}/nvidia/cudnn/lib ${folder}/nvidia/cu13/lib)
    if(IS_DIRECTORY ${libraries})
      list(APPEND TEMPRA_NVIDIA_LIBRARY_FOLDERS ${libraries})
    endif()
  endforeach()
endforeach()

set(TEMPRA_CUDNN_FOUND FALSE)
set(TEMPRA_CUDNN_INCLUDE_DIRECTORIES)
if(NOT TEMPRA_CUDA_CUDNN STREQUAL "OFF")
  set(missing)
  foreach(needed cudnn_frontend.h=nvidia-cudnn-frontend cudnn.h=nvidia-cudnn-cu13
                 nvrtc.h=nvidia-cuda-nvrtc)
    string(REPLACE "=" ";" needed ${needed})
    list(GET needed 0 header)
    list(GET needed 1 package)
    string(MAKE_C_IDENTIFIER ${header} name)
    string(TOUPPER TEMPRA_FOLDER_OF_${name} variable)
    # First where pyproject.toml's versions are; the second does nothing where the first has found it.
    find_path(${variable} ${header} PATHS ${hints} NO_DEFAULT_PATH DOC "The folder of ${header}")
    find_path(${variable} ${header} HINTS ${CUDAToolkit_INCLUDE_DIRS})
    if(${variable})
      list(APPEND TEMPRA_CUDNN_INCLUDE_DIRECTORIES ${${variable}})
    else()
      list(APPEND missing "${header} (PyPI's ${package}, or -D${variable}=FOLDER)")
    endif()
  endforeach()
  list(REMOVE_DUPLICATES TEMPRA_CUDNN_INCLUDE_DIRECTORIES)
  list(JOIN missing ", " missing)
  if(missing STREQUAL "")
    set(TEMPRA_CUDNN_FOUND TRUE)
    message(STATUS "tempra_cuda: attention by cuDNN on (${TEMPRA_CUDNN_INCLUDE_DIRECTORIES})")
  elseif(TEMPRA_CUDA_CUDNN STREQUAL "ON")
    message(FATAL_ERROR "tempra_cuda: attention by cuDNN needs ${missing}; "
                        "-DTEMPRA_CUDA_CUDNN=OFF leaves it out")
  else()
    message(STATUS "tempra_cuda: attention by cuDNN off, as there is no ${missing}")
  endif()
endif()

# With it every number of cuBLASLt's that is declared here is compared with its header.
find_path(TEMPRA_FOLDER_OF_CUBLASLT_H cublasLt.h HINTS ${hints} ${CUDAToolkit_INCLUDE_DIRS})
set(TEMPRA_CUBLAS_INCLUDE_DIRECTORY)
if(TEMPRA_FOLDER_OF_CUBLASLT_H)
  set(TEMPRA_CUBLAS_INCLUDE_DIRECTORY ${TEMPRA_FOLDER_OF_CUBLASLT_H})
endif()
