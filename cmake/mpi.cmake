# libcxnet_mpi.so: several processes that train one network, joined by MPI; beside the program, which opens it when a launcher has started several ranks.
set(CX_MPI AUTO CACHE STRING "Build the MPI plug-in: AUTO (where MPI is found, but not under a sanitizer), ON or OFF")
if(CX_MPI STREQUAL ON OR (CX_MPI STREQUAL AUTO AND NOT CX_SANITIZE))
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI QUIET COMPONENTS C)
  if(MPI_C_FOUND)
    file(GLOB CX_MPI_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/mpi/*.c)
    add_library(cxnet_mpi MODULE ${CX_MPI_SOURCES})
    set_target_properties(cxnet_mpi PROPERTIES C_VISIBILITY_PRESET hidden LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
    target_link_libraries(cxnet_mpi PRIVATE cx_flags cxnet_static ${CX_LIBS} MPI::MPI_C)
    target_link_options(cxnet_mpi PRIVATE -Wl,--exclude-libs,ALL)
    # Tests look for plug-ins in one folder.
    add_custom_command(TARGET cxnet_mpi POST_BUILD COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/tests/plugins
        COMMAND ${CMAKE_COMMAND} -E create_symlink $<TARGET_FILE:cxnet_mpi> ${CMAKE_BINARY_DIR}/tests/plugins/libcxnet_mpi.so)
    install(TARGETS cxnet_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  elseif(CX_MPI STREQUAL ON)
    message(FATAL_ERROR "CX_MPI=ON, but there is no MPI library with mpi.h")
  endif()
endif()
