// streams.cpp - streams, events and graphs of the emulated GPU (cuda_runtime_api.h): work waits until the host waits, and streams take turns by lot.
#include "runtime.h"
#include <algorithm>
#include <deque>
#include <memory>
#include <unistd.h>
#include <vector>

namespace emu {
typedef std::function<bool()> Task;     // false: not done yet, for it waits for something outside of this process; to be tried again
struct Node {
    Task task;
    std::vector<size_t> after;          // nodes that must be done before
};
typedef std::vector<Node> Nodes;

// A point in a stream that others may wait for.
struct Mark { bool done = false; };

// One launch of a graph on its way.
struct Replay {
    std::shared_ptr<Nodes> nodes;
    std::shared_ptr<int> flying;        // launches of this graph on their way
    std::vector<size_t> waits_for, ready;
    size_t left;
};

// What a stream does next: a task, and then the mark; or nothing, until `until` is done; or a graph.
struct Work {
    Task task;
    std::shared_ptr<Mark> mark, until;
    std::shared_ptr<Replay> replay;
};

struct Capture {
    Nodes nodes;
    cudaStream_t origin;
    bool spoilt = false;
};
}
using namespace emu;

struct CUstream_st {
    std::deque<Work> work;
    std::shared_ptr<Capture> capture;
    std::vector<size_t> tips;           // while it captures: the nodes that the next one comes after
};
struct CUevent_st {
    std::shared_ptr<Mark> mark;         // NULL: never recorded
    std::shared_ptr<Capture> capture;   // recorded in it, behind `tips`
    std::vector<size_t> tips;
};
struct CUgraph_st { std::shared_ptr<Nodes> nodes; };
struct CUgraphExec_st {
    std::shared_ptr<Nodes> nodes;
    std::shared_ptr<int> flying;
};

static std::vector<cudaStream_t> streams;           // in the order they were made
static uint64_t drawn = 1;

// ---- who comes next ---------------------------------------------------------------------------------------------------

// SplitMix64 (Steele et al. 2014).
static size_t draw(size_t n)
{
    uint64_t z = drawn += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (size_t)((z ^ z >> 31) % n);
}

static bool is_ready(cudaStream_t s) { return !s->work.empty() && (!s->work.front().until || s->work.front().until->done); }

// One node, of those whose turn it is. False when it is not done yet.
static bool replay_node(Replay &r)
{
    const size_t k = draw(r.ready.size()), node = r.ready[k];
    if (!(*r.nodes)[node].task())
        return false;
    r.ready.erase(r.ready.begin() + (long)k);
    for (size_t later = node + 1; later < r.nodes->size(); later++)
        for (size_t before : (*r.nodes)[later].after)
            if (before == node && --r.waits_for[later] == 0)
                r.ready.push_back(later);
    r.left--;
    return true;
}

// False when what comes next is not done yet.
static bool work_on(cudaStream_t s)
{
    const Work w = s->work.front();
    if (w.replay && w.replay->left > 0) {
        if (!replay_node(*w.replay))
            return false;
        if (w.replay->left > 0)
            return true;
    }
    if (w.task && !w.task())
        return false;
    s->work.pop_front();
    if (w.replay)
        --*w.replay->flying;
    if (w.mark)
        w.mark->done = true;
    return true;
}

// A drawn stream does one thing or, half of the time, up to 256, so that one may fall far behind another, or finds that it must wait for another process. False
// when there is nothing to do.
static bool work_some()
{
    std::vector<cudaStream_t> ready;
    for (cudaStream_t s : streams)
        if (is_ready(s))
            ready.push_back(s);
    if (ready.empty())
        return false;
    cudaStream_t s = ready[draw(ready.size())];
    Open open;
    for (size_t n = draw(2) ? 1 : (size_t)1 << draw(9); n > 0 && is_ready(s); n--)
        if (!work_on(s)) {
            usleep(50);
            break;
        }
    return true;
}

static void work_until(const std::function<bool()> &done)
{
    Open open;                  // once: opening touches every page of the device
    while (!done())
        if (!work_some())
            die("waits for work that nobody queued");
}

// ---- work into a stream -------------------------------------------------------------------------------------------------

static bool captures_anywhere()
{
    return std::any_of(streams.begin(), streams.end(), [](cudaStream_t s) { return s->capture != nullptr; });
}

static void spoil(cudaStream_t one)
{
    for (cudaStream_t s : streams)
        if (s->capture && (!one || s == one))
            s->capture->spoilt = true;
}

static cudaError_t spoilt_by(cudaStream_t s, cudaError_t e)
{
    spoil(s);
    return failed(e);
}

namespace emu {
bool is_capturing(cudaStream_t stream) { return stream ? stream->capture != nullptr : captures_anywhere(); }
cudaError_t forbid() { return spoilt_by(nullptr, cudaErrorStreamCaptureUnsupported); }

cudaError_t queue(cudaStream_t s, std::function<void()> work)
{
    return queue_until(s, [work = std::move(work)] {
        work();
        return true;
    });
}

cudaError_t queue_until(cudaStream_t s, Task task)
{
    if (!s && captures_anywhere())
        return spoilt_by(nullptr, cudaErrorStreamCaptureImplicit);
    if (!s) {
        Open open;
        while (!task())
            usleep(50);
    } else if (s->capture && s->capture->spoilt) {
        return failed(cudaErrorStreamCaptureInvalidated);
    } else if (s->capture) {
        s->capture->nodes.push_back({ std::move(task), s->tips });
        s->tips = { s->capture->nodes.size() - 1 };
    } else {
        s->work.push_back({ std::move(task), nullptr, nullptr, nullptr });
    }
    return cudaSuccess;
}

void finish(cudaStream_t s)
{
    auto mark = std::make_shared<Mark>();
    s->work.push_back({ nullptr, mark, nullptr, nullptr });
    work_until([&] { return mark->done; });
}
}

extern "C" {

void emu_shuffle(unsigned seed) { drawn = seed; }

// ---- streams and events ---------------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    *stream = nullptr;
    if (flags != cudaStreamNonBlocking)
        return failed(cudaErrorInvalidValue);
    *stream = new CUstream_st();
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    if (!stream)
        return failed(cudaErrorInvalidResourceHandle);
    spoil(stream);
    finish(stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (is_capturing(stream))
        return spoilt_by(stream, cudaErrorStreamCaptureUnsupported);
    if (stream)
        finish(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    if (is_capturing(stream))
        return spoilt_by(stream, cudaErrorStreamCaptureUnsupported);
    work_some();
    return failed(!stream || stream->work.empty() ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (captures_anywhere())
        return forbid();
    while (work_some())
        ;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (!stream)
        return failed(cudaErrorInvalidResourceHandle);
    *event = {};
    if (stream->capture) {
        event->capture = stream->capture;
        event->tips = stream->tips;
        return cudaSuccess;
    }
    event->mark = std::make_shared<Mark>();
    stream->work.push_back({ nullptr, event->mark, nullptr, nullptr });
    return cudaSuccess;
}

// The stream comes into the capture of the event, or waits there for one more node.
static cudaError_t join(cudaStream_t stream, cudaEvent_t event)
{
    if (stream->capture && stream->capture != event->capture)
        return spoilt_by(stream, cudaErrorStreamCaptureIsolation);
    if (!stream->capture)
        stream->tips.clear();
    stream->capture = event->capture;
    for (size_t tip : event->tips)
        if (std::find(stream->tips.begin(), stream->tips.end(), tip) == stream->tips.end())
            stream->tips.push_back(tip);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (!stream)
        return failed(cudaErrorInvalidResourceHandle);
    if (event->capture)
        return join(stream, event);
    if (stream->capture)
        return event->mark ? spoilt_by(stream, cudaErrorStreamCaptureIsolation) : cudaSuccess;
    if (event->mark)
        stream->work.push_back({ nullptr, nullptr, event->mark, nullptr });
    return cudaSuccess;
}

static cudaError_t captured(cudaEvent_t event)
{
    event->capture->spoilt = true;
    return failed(cudaErrorCapturedEvent);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (event->capture)
        return captured(event);
    work_some();
    return failed(!event->mark || event->mark->done ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->capture)
        return captured(event);
    if (event->mark)
        work_until([&] { return event->mark->done; });
    return cudaSuccess;
}

// ---- graphs -----------------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (!stream)
        return failed(cudaErrorStreamCaptureUnsupported);
    if (stream->capture)
        return failed(cudaErrorIllegalState);
    stream->capture = std::make_shared<Capture>();
    stream->capture->origin = stream;
    stream->tips.clear();
    return cudaSuccess;
}

// Whether all nodes are done once these are.
static bool all_before(const Nodes &nodes, std::vector<size_t> todo)
{
    std::vector<bool> seen(nodes.size());
    while (!todo.empty()) {
        const size_t n = todo.back();
        todo.pop_back();
        if (!seen[n]) {
            seen[n] = true;
            todo.insert(todo.end(), nodes[n].after.begin(), nodes[n].after.end());
        }
    }
    return std::all_of(seen.begin(), seen.end(), [](bool s) { return s; });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = nullptr;
    if (!stream || !stream->capture)
        return failed(cudaErrorIllegalState);
    const std::shared_ptr<Capture> c = stream->capture;
    if (c->origin != stream)
        return spoilt_by(stream, cudaErrorStreamCaptureUnmatched);
    for (cudaStream_t s : streams)
        if (s->capture == c)
            s->capture = nullptr;
    if (c->spoilt)
        return failed(cudaErrorStreamCaptureInvalidated);
    if (!all_before(c->nodes, stream->tips))
        return failed(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{ std::make_shared<Nodes>(c->nodes) };
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new CUgraphExec_st{ graph->nodes, std::make_shared<int>(0) };
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (!stream)
        return failed(cudaErrorInvalidResourceHandle);
    if (stream->capture)
        return spoilt_by(stream, cudaErrorStreamCaptureUnsupported);
    auto r = std::make_shared<Replay>(Replay{ exec->nodes, exec->flying, {}, {}, exec->nodes->size() });
    for (size_t n = 0; n < r->left; n++) {
        r->waits_for.push_back((*r->nodes)[n].after.size());
        if (r->waits_for[n] == 0)
            r->ready.push_back(n);
    }
    ++*exec->flying;
    stream->work.push_back({ nullptr, nullptr, nullptr, r });
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    if (*exec->flying > 0)
        die("a graph is destroyed while it is on its way");
    delete exec;
    return cudaSuccess;
}
}
