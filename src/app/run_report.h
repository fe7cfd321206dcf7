/* run_report.h - the page that a finished run leaves. Depends on train.h. */
#ifndef CX_APP_RUN_REPORT_H
#define CX_APP_RUN_REPORT_H
#include "cxnet/train.h"

/* Writes <run>/report.html (figures, curves, ROC, confusion, Grad-CAM gallery, provenance) and <run>/figures/cam_NN.png from what cx_run_train left in the
 * folder. threads as in cx_backend_open. CX_E_NOINPUT when the run has not finished. */
cx_status cx_run_report(const char *run, int threads, cx_error *err);
#endif
