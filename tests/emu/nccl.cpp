// nccl.cpp - send and receive between emulated GPUs of several processes: a message is a file in a folder that the unique id names.
//
// A group is carried out when it ends, in the place that it has on its streams: the host waits for what was queued before. A message outside of a group, of
// another size than was asked for, or that nobody sends within a minute is an error. Not modelled: capture, and groups that are still on their way when the
// call returns.
#include <errno.h>
#include <fcntl.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

struct ncclComm { std::string folder; int rank, ranks; std::vector<long> sent, taken; };

namespace {
struct message { bool send; void *p; size_t bytes; int peer; ncclComm *comm; cudaStream_t stream; };
struct group { int depth; std::vector<message> queued; };

/* mutable: NCCL's groups belong to the thread that begins them */
thread_local group open_group;

std::string file_of(const ncclComm *c, int from, int to, long number)
{
    return c->folder + "/" + std::to_string(from) + "." + std::to_string(to) + "." + std::to_string(number);
}

bool send_file(const message &m)
{
    std::vector<char> host(m.bytes);
    const std::string path = file_of(m.comm, m.comm->rank, m.peer, m.comm->sent[(size_t)m.peer]++), part = path + ".part";
    if (cudaMemcpyAsync(host.data(), m.p, m.bytes, cudaMemcpyDeviceToHost, m.stream) != cudaSuccess || cudaStreamSynchronize(m.stream) != cudaSuccess)
        return false;
    FILE *f = fopen(part.c_str(), "wb");
    const bool written = f && fwrite(host.data(), 1, m.bytes, f) == m.bytes;
    return f && fclose(f) == 0 && written && rename(part.c_str(), path.c_str()) == 0;
}

bool take_file(const message &m)
{
    std::vector<char> host(m.bytes);
    const std::string path = file_of(m.comm, m.peer, m.comm->rank, m.comm->taken[(size_t)m.peer]++);
    FILE *f = nullptr;
    struct stat st;
    for (int tries = 0; tries < 300000 && !(f = fopen(path.c_str(), "rb")); tries++)
        usleep(200);
    const bool read = f && fstat(fileno(f), &st) == 0 && (size_t)st.st_size == m.bytes && fread(host.data(), 1, m.bytes, f) == m.bytes;
    if (f)
        fclose(f);
    unlink(path.c_str());
    return read && cudaMemcpyAsync(m.p, host.data(), m.bytes, cudaMemcpyHostToDevice, m.stream) == cudaSuccess &&
           cudaStreamSynchronize(m.stream) == cudaSuccess;
}

ncclResult_t queue(bool send, void *p, size_t count, int peer, ncclComm *comm, cudaStream_t stream)
{
    if (open_group.depth == 0 || peer == comm->rank || peer < 0 || peer >= comm->ranks)
        return ncclInvalidUsage;
    open_group.queued.push_back({ send, p, count * sizeof(float), peer, comm, stream });
    return ncclSuccess;
}
}

extern "C" {
ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    snprintf(id->internal, sizeof id->internal, "%s/cxnet-nccl-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(id->internal) ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank)
{
    *comm = new ncclComm{ id.internal, rank, ranks, std::vector<long>((size_t)ranks), std::vector<long>((size_t)ranks) };
    return ncclSuccess;
}

/* The last one takes the folder away: it is then empty. */
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    rmdir(comm->folder.c_str());
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    open_group.depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (open_group.depth == 0)
        return ncclInvalidUsage;
    if (--open_group.depth > 0)
        return ncclSuccess;
    std::vector<message> queued;
    queued.swap(open_group.queued);
    for (const message &m : queued)
        if (m.send && !send_file(m))
            return ncclSystemError;
    for (const message &m : queued)
        if (!m.send && !take_file(m))
            return ncclSystemError;
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *p, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return queue(true, const_cast<void *>(p), count, peer, comm, stream);
}

ncclResult_t ncclRecv(void *p, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return queue(false, p, count, peer, comm, stream);
}

const char *ncclGetErrorString(ncclResult_t e) { return e == ncclSuccess ? "no error" : e == ncclInvalidUsage ? "invalid usage" : "system error"; }
}
