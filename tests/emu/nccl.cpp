// nccl.cpp - send and receive between emulated GPUs of several processes: a message is a file FROM.TO.NUMBER in a folder that the unique id names.
//
// Communicators never block (ncclConfig_t.blocking = 0). A group comes into its stream not when it ends but when ncclCommGetAsyncError has been asked for the
// second time, for NCCL does that in a thread of its own; whoever does not ask has it out of order, or never. It is then work of the stream like any other,
// captured too, and waits there, if need be without end, for messages that nobody sends. As NCCL's, ncclCommAbort makes it leave, and comes back only when no
// graph that has captured such work is left. A message outside of a group, or to oneself, is an error; one of another size than was asked for ends the program.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>
#include "runtime.h"

namespace {
/* What a communicator and its work in streams and graphs share. */
struct wires {
    std::string folder;
    int rank, ranks;
    std::vector<long> sent, taken;
    std::atomic<bool> aborted{ false }, cut{ false };       /* told to leave; there was work that did */
};
struct message { bool send; void *p; size_t bytes; int peer; };
struct group { std::vector<message> messages; cudaStream_t stream; };

/* One group in a stream. Begins anew when it is done, for a graph does it more than once. */
struct work {
    group g;
    std::shared_ptr<wires> on;
    size_t next;                                            /* message to take care of; sends come first */
};

/* mutable: NCCL's groups belong to the thread that begins them */
thread_local int depth;
thread_local std::vector<std::pair<ncclComm_t, group>> open_groups;
/* mutable: a test has broken all wires */
bool broken;
}

struct ncclComm {
    std::shared_ptr<wires> on;
    std::vector<group> unqueued;
    int asked;
};

namespace {
std::string path_of(const wires &w, int from, int to, long number)
{
    return w.folder + "/" + std::to_string(from) + "." + std::to_string(to) + "." + std::to_string(number);
}
std::string place_of(const wires &w, int rank) { return w.folder + "/" + std::to_string(rank); }

void send_file(wires &w, const message &m)
{
    const std::string path = path_of(w, w.rank, m.peer, w.sent[(size_t)m.peer]++), part = path + ".part";
    FILE *f = fopen(part.c_str(), "wb");
    const bool written = f && fwrite(m.p, 1, m.bytes, f) == m.bytes;
    if (!f || fclose(f) != 0 || !written || rename(part.c_str(), path.c_str()) != 0)
        emu::die("a message of NCCL cannot be written");
}

/* False while it is not there. */
bool take_file(wires &w, const message &m)
{
    const std::string path = path_of(w, m.peer, w.rank, w.taken[(size_t)m.peer]);
    FILE *f = fopen(path.c_str(), "rb");
    struct stat st;
    if (!f)
        return false;
    if (fstat(fileno(f), &st) != 0 || (size_t)st.st_size != m.bytes || fread(m.p, 1, m.bytes, f) != m.bytes)
        emu::die("a message of NCCL has another size than was asked for");
    fclose(f);
    unlink(path.c_str());
    w.taken[(size_t)m.peer]++;
    return true;
}

bool carry_out(work &w)
{
    if (w.on->aborted) {
        w.on->cut = true;
        w.next = 0;
        return true;
    }
    if (broken)
        return false;
    for (; w.next < w.g.messages.size(); w.next++) {
        const message &m = w.g.messages[w.next];
        if (m.send)
            send_file(*w.on, m);
        else if (!take_file(*w.on, m))
            return false;
    }
    w.next = 0;
    return true;
}

ncclResult_t put(bool send, void *p, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    if (depth == 0 || peer == comm->on->rank || peer < 0 || peer >= comm->on->ranks)
        return ncclInvalidUsage;
    if (open_groups.empty() || open_groups.back().first != comm || open_groups.back().second.stream != stream)
        open_groups.push_back({ comm, { {}, stream } });
    std::vector<message> &all = open_groups.back().second.messages;
    const message m = { send, p, count * (type == ncclFloat ? sizeof(float) : 1), peer };
    all.insert(send ? std::find_if(all.begin(), all.end(), [](const message &o) { return !o.send; }) : all.end(), m);
    return ncclSuccess;
}

/* Whether something is left that must be asked for again. */
bool is_in_progress(ncclComm_t comm)
{
    for (int r = 0; r < comm->on->ranks; r++)
        if (access(place_of(*comm->on, r).c_str(), F_OK) != 0 && comm->on->sent[(size_t)r] == 0 && comm->on->taken[(size_t)r] == 0)
            return true;
    if (comm->unqueued.empty() || ++comm->asked < 2)
        return !comm->unqueued.empty();
    for (const group &g : comm->unqueued) {
        auto w = std::make_shared<work>(work{ g, comm->on, 0 });
        emu::queue_until(g.stream, [w] { return carry_out(*w); });
    }
    comm->unqueued.clear();
    comm->asked = 0;
    return false;
}
}

extern "C" {
void emu_nccl_break(void) { broken = true; }

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    snprintf(id->internal, sizeof id->internal, "%s/cxnet-nccl-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(id->internal) ? ncclSuccess : ncclSystemError;
}

/* A rank that is there shows it by a file. */
ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    auto on = std::make_shared<wires>();
    *comm = nullptr;
    if (config->blocking)
        return ncclInvalidArgument;
    on->folder = id.internal;
    on->rank = rank;
    on->ranks = ranks;
    on->sent.resize((size_t)ranks);
    on->taken.resize((size_t)ranks);
    FILE *f = fopen(place_of(*on, rank).c_str(), "wb");
    if (!f || fclose(f) != 0)
        return ncclSystemError;
    *comm = new ncclComm{ on, {}, 0 };
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *e)
{
    *e = broken ? ncclRemoteError : is_in_progress(comm) ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}

/* The last one takes the folder away; or the first, when messages are left that nobody will take. */
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    const std::shared_ptr<wires> on = comm->on;
    std::error_code ignored;
    on->aborted = true;
    delete comm;
    while (on.use_count() > 1)
        usleep(500);
    unlink(place_of(*on, on->rank).c_str());
    if (on->cut || broken)
        std::filesystem::remove_all(on->folder, ignored);
    else
        rmdir(on->folder.c_str());
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (depth == 0)
        return ncclInvalidUsage;
    if (--depth > 0)
        return ncclSuccess;
    const bool any = !open_groups.empty();
    for (auto &g : open_groups)
        g.first->unqueued.push_back(g.second);
    open_groups.clear();
    return any ? ncclInProgress : ncclSuccess;
}

ncclResult_t ncclSend(const void *p, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return put(true, const_cast<void *>(p), count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void *p, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return put(false, p, count, type, peer, comm, stream);
}

const char *ncclGetErrorString(ncclResult_t e)
{
    return e == ncclSuccess ? "no error" : e == ncclInvalidUsage ? "invalid usage" : e == ncclRemoteError ? "remote process exited or there was a network error"
        : "system error";
}
}
