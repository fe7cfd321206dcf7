# Installing: the program, both libraries, headers, a CMake package (cxnet::shared, cxnet::static) and a pkg-config file.
set(CX_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/cxnet)
# What a program that links the static library needs besides it. Plain names: the package must not depend on how this build found them.
# Debian calls its plain libhdf5 hdf5_serial.
find_library(CX_HDF5_SERIAL hdf5_serial)
set(CX_STATIC_NEEDS png jpeg z hdf5 webp cyaml yaml jansson m)
if(CX_HDF5_SERIAL)
  list(TRANSFORM CX_STATIC_NEEDS REPLACE "^hdf5$" hdf5_serial)
endif()

foreach(kind shared static)
  set_target_properties(cxnet_${kind} PROPERTIES EXPORT_NAME ${kind})
  install(TARGETS cxnet_${kind} EXPORT cxnetTargets)
endforeach()
foreach(library IN LISTS CX_STATIC_NEEDS ITEMS -fopenmp -pthread)
  target_link_libraries(cxnet_static INTERFACE $<INSTALL_INTERFACE:${library}>)
endforeach()
if(TARGET cxnet)
  install(TARGETS cxnet)
endif()
install(DIRECTORY include/cxnet TYPE INCLUDE FILES_MATCHING PATTERN "*.h" PATTERN "*.def")
install(EXPORT cxnetTargets NAMESPACE cxnet:: DESTINATION ${CX_PACKAGE_DIR})

configure_package_config_file(cmake/cxnetConfig.cmake.in ${CMAKE_BINARY_DIR}/cxnetConfig.cmake INSTALL_DESTINATION ${CX_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/cxnetConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/cxnetConfig.cmake ${CMAKE_BINARY_DIR}/cxnetConfigVersion.cmake DESTINATION ${CX_PACKAGE_DIR})

list(TRANSFORM CX_STATIC_NEEDS PREPEND "-l" OUTPUT_VARIABLE CX_PRIVATE_LIBS)
list(JOIN CX_PRIVATE_LIBS " " CX_PRIVATE_LIBS)
file(RELATIVE_PATH CX_LIBDIR_UP /prefix/${CMAKE_INSTALL_LIBDIR} /prefix)
configure_file(cmake/cxnet.pc.in ${CMAKE_BINARY_DIR}/cxnet.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/cxnet.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
