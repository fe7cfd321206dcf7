/* runtime.h - what the emulated GPU's scheduler and its runtime share: device memory is open while an object of this kind lives. */
#ifndef CX_EMU_RUNTIME_H
#define CX_EMU_RUNTIME_H
namespace emu {
struct Open {
    Open();
    ~Open();
};
}
#endif
