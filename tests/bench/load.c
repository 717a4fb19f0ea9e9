/* The load generator and the fake Copilot of the bench: one thread, one epoll, no allocation per
 * request, so that neither is what a cell measures.
 *
 *   load rtt      to=ADDRESS request=FILE reply=BYTES|eof|msgpack [reconnect=1]
 *   load http     to=ADDRESS request=FILE                (FILE: the whole HTTP/1.1 request)
 *   load rpc      to=ADDRESS body=FILE [stream=1] [lanes=1]
 *   load upstream listen=tcp:127.0.0.1:PORT              (0: any; told on the first line)
 *
 * ADDRESS is unix:PATH or tcp:HOST:PORT. The three client modes also take
 *   connections=1   open at the same time
 *   seconds=1       how long requests are made
 *   drain=0         seconds that those under way then are given; the rest is counted as unfinished
 *   each=0          requests per connection (0: as many as the time allows)
 *   spread=0        milliseconds over which the connections begin, one after the other
 *   events=0        events that a whole stream has (0: not checked)
 *   warm=FILE       a request (rpc: a body) that every connection makes once before it all begins
 *   cpu=PID,…       the measured processes: their CPU time from the first request to the last answer
 *   beside=PID,…    likewise, those on the generator's own core
 *   from=0 until=0  milliseconds: take CPU times and events of this window instead (0: of the whole)
 * and end by printing one flat JSON object: operations, errors, requests not finished when time was
 * up, CPU times, and (p50_us, p90_us, p99_us, p999_us, max_us) of the latency, of the time to the
 * first event (`first_event_…`) and of the age of events (`event_…`: a paced event carries the
 * CLOCK_MONOTONIC time at which upstream wrote it). What was never seen is left out.
 *
 * The fake Copilot answers `POST …/chat/completions` as the model's name says:
 *   bench-json          about 1 KB of JSON
 *   bench-burst-N       N events of about 190 bytes, at once, each a chunk of its own
 *   bench-bare-N        the same without `object`, as Claude models come
 *   bench-paced-N-MS    N stamped events, one every MS milliseconds
 * The model is looked for at the start of the body. GET …/models lists four families.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

typedef unsigned char u8;

enum { READ_SIZE = 64 * 1024, EVENTS_A_TURN = 256, MAX_LANES = 16, TAIL = 14 };
#define WINDOW (256 * 1024) /* a stream's first credit, client/PROTOCOL.md */
static const char DONE[] = "data: [DONE]\n\n";

/* -- small things ----------------------------------------------------------------------------- */

static void die(const char *form, ...)
{
    va_list values;
    va_start(values, form);
    fputs("load: ", stderr);
    vfprintf(stderr, form, values);
    fputc('\n', stderr);
    va_end(values);
    exit(2);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CPU seconds by a process's clock, all its threads together (clock_getcpuclockid(3)). */
static double cpu_by(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_of(const char *pids)
{
    double sum = 0;
    for (char *end; *pids; pids = *end == ',' ? end + 1 : end) {
        clockid_t clock;
        if (!clock_getcpuclockid((pid_t)strtol(pids, &end, 10), &clock))
            sum += cpu_by(clock);
        if (end == pids)
            die("%s is no list of process ids", pids);
    }
    return sum;
}

static char **options;

static const char *option(const char *key, const char *fallback)
{
    size_t size = strlen(key);
    for (char **one = options; *one; one++)
        if (!strncmp(*one, key, size) && (*one)[size] == '=')
            return *one + size + 1;
    if (!fallback)
        die("%s= is missing", key);
    return fallback;
}

static double number(const char *key, const char *fallback)
{
    return strtod(option(key, fallback), NULL);
}

/* Bytes that grow: filled at `end`, taken from `start`. */
struct buffer {
    u8 *bytes;
    size_t start, end, room;
};

static void reserve(struct buffer *b, size_t more)
{
    if (b->start && (b->start == b->end || b->end + more > b->room)) {
        memmove(b->bytes, b->bytes + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
    }
    if (b->end + more > b->room) {
        b->room = (b->end + more) * 3 / 2;
        if (!(b->bytes = realloc(b->bytes, b->room)))
            die("no memory");
    }
}

static void append(struct buffer *b, const void *bytes, size_t size)
{
    reserve(b, size);
    memcpy(b->bytes + b->end, bytes, size);
    b->end += size;
}

static void print(struct buffer *b, const char *form, ...)
{
    char line[1024];
    va_list values;
    va_start(values, form);
    append(b, line, (size_t)vsnprintf(line, sizeof line, form, values));
    va_end(values);
}

static struct buffer read_file(const char *path)
{
    struct buffer b = {0};
    FILE *file = fopen(path, "rb");
    if (!file)
        die("%s: %s", path, strerror(errno));
    size_t got;
    do {
        reserve(&b, READ_SIZE);
        got = fread(b.bytes + b.end, 1, READ_SIZE, file);
        b.end += got;
    } while (got);
    fclose(file);
    return b;
}

/* -- latencies: a histogram with 64 steps per power of two (1.6 % wide), so no list grows -------- */

struct histogram {
    uint64_t count, max, steps[64 * 64];
};

static void note(struct histogram *h, uint64_t ns)
{
    unsigned power = ns < 128 ? 0 : 57u - (unsigned)__builtin_clzll(ns);
    h->steps[power * 64 + (ns >> power)]++;
    h->count++;
    if (ns > h->max)
        h->max = ns;
}

static double percentile(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->count), seen = 0;
    for (unsigned step = 0; step < 64 * 64; step++)
        if ((seen += h->steps[step]) > wanted) {
            unsigned power = step < 128 ? 0 : step / 64 - 1;
            return (double)((uint64_t)(step - power * 64) << power) / 1e3;
        }
    return (double)h->max / 1e3;
}

static void print_histogram(const char *name, const struct histogram *h)
{
    if (!h->count)
        return;
    static const struct {
        const char *name;
        double share;
    } shown[] = {{"p50", .50}, {"p90", .90}, {"p99", .99}, {"p999", .999}};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        printf(", \"%s%s_us\": %.3f", name, shown[i].name, percentile(h, shown[i].share));
    printf(", \"%smax_us\": %.3f", name, (double)h->max / 1e3);
}

/* -- sockets ------------------------------------------------------------------------------------ */

static socklen_t parse_address(const char *text, struct sockaddr_storage *found)
{
    memset(found, 0, sizeof *found);
    if (!strncmp(text, "unix:", 5)) {
        struct sockaddr_un *un = (struct sockaddr_un *)found;
        un->sun_family = AF_UNIX;
        if (strlen(text + 5) >= sizeof un->sun_path)
            die("%s is too long for a socket", text + 5);
        strcpy(un->sun_path, text + 5);
        return sizeof *un;
    }
    char host[256];
    const char *colon = strrchr(text, ':');
    if (strncmp(text, "tcp:", 4) || colon <= text + 4)
        die("%s is neither unix:PATH nor tcp:HOST:PORT", text);
    snprintf(host, sizeof host, "%.*s", (int)(colon - text - 4), text + 4);
    struct addrinfo *list, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int failure = getaddrinfo(host, colon + 1, &hints, &list);
    if (failure)
        die("%s: %s", text, gai_strerror(failure));
    socklen_t size = list->ai_addrlen;
    memcpy(found, list->ai_addr, size);
    freeaddrinfo(list);
    return size;
}

static void prepare(int fd, int family)
{
    int on = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void watch(int epoll, int operation, int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};
    if (epoll_ctl(epoll, operation, fd, &event))
        die("epoll_ctl: %s", strerror(errno));
}

/* Write what waits in `out`; -1 when the peer has gone. `waiting` says whether EPOLLOUT is on. */
static int flush(int epoll, int fd, struct buffer *out, int *waiting, void *data)
{
    while (out->start < out->end) {
        ssize_t sent = send(fd, out->bytes + out->start, out->end - out->start, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return -1;
        if (sent < 0)
            break;
        out->start += (size_t)sent;
    }
    int wanted = out->start < out->end;
    if (!wanted)
        out->start = out->end = 0;
    if (wanted != *waiting)
        watch(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | (wanted ? EPOLLOUT : 0), data);
    *waiting = wanted;
    return 0;
}

/* Read once into `in`; -1 when the peer has gone, 0 when nothing is there. */
static ssize_t fill(int fd, struct buffer *in)
{
    reserve(in, READ_SIZE);
    ssize_t got = recv(fd, in->bytes + in->end, READ_SIZE, 0);
    if (got > 0)
        in->end += (size_t)got;
    return got > 0 ? got : got < 0 && errno == EAGAIN ? 0 : -1;
}

/* -- one answer under way ------------------------------------------------------------------------ */

struct lane {
    uint64_t asked, first, stream, unused; /* unused: bytes received and not given back as credit */
    uint64_t events;
    int busy, midway; /* midway: the last bytes were inside an event */
    char tail[TAIL];  /* the stream's last bytes: is it [DONE]? */
};

static struct histogram latency, first_event, event_age;
static uint64_t ops, errors, events_seen, bytes_seen, stop_at, started, expected;

/* Count the events of a piece of a stream and look at their stamps; nothing is copied. */
static void meter(struct lane *lane, const u8 *p, size_t size)
{
    static const char STAMP[] = "data: {\"t\":";
    const u8 *end = p + size;
    uint64_t now = now_ns();
    bytes_seen += size;
    int split = lane->midway && lane->tail[TAIL - 1] == '\n' && *p == '\n'; /* \n and \n */
    const u8 *at = p + split;
    lane->midway &= !split;
    lane->events += (uint64_t)split;
    events_seen += (uint64_t)split;
    while (at < end) {
        if (!lane->midway && end - at > 40 && !memcmp(at, STAMP, sizeof STAMP - 1)) {
            uint64_t stamp = strtoull((const char *)at + sizeof STAMP - 1, NULL, 10);
            note(&event_age, now > stamp ? now - stamp : 0);
        }
        const u8 *stop = memmem(at, (size_t)(end - at), "\n\n", 2);
        lane->midway = !stop;
        if (!stop)
            break;
        lane->events++, events_seen++;
        at = stop + 2;
    }
    if (!lane->first && lane->events) {
        lane->first = now;
        note(&first_event, now - lane->asked);
    }
    if (size >= TAIL)
        memcpy(lane->tail, end - TAIL, TAIL);
    else {
        memmove(lane->tail, lane->tail + size, TAIL - size);
        memcpy(lane->tail + TAIL - size, p, size);
    }
}

/* Note a finished answer. A stream is whole if it ends in [DONE] and has the events it should. */
static void finish(struct lane *lane, int sound, int streamed)
{
    if (streamed)
        sound &= !memcmp(lane->tail, DONE, TAIL) && (!expected || lane->events == expected + 1);
    lane->busy = 0;
    if (sound) {
        ops++;
        note(&latency, now_ns() - lane->asked);
    } else
        errors++;
}

/* -- the clients' connections --------------------------------------------------------------------- */

struct connection {
    int fd, waiting, lanes, active;
    uint64_t left; /* requests it may still make */
    struct buffer in, out;
    struct lane lane[MAX_LANES];
    /* of an HTTP answer: */
    enum { HEAD, LENGTH, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER } state;
    size_t missing;
    int sound, streamed;
};

struct mode {
    void (*ask)(struct connection *, int lane);
    int (*take)(struct connection *); /* eat `in`; -1: give the connection up */
    int (*gone)(struct connection *); /* the peer closed; 1: that was the answer's end */
};

static struct mode mode;
static int epoll, alive, reconnect;
static struct sockaddr_storage address;
static socklen_t address_size;
static struct buffer request;

static int open_connection(struct connection *c)
{
    c->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, address_size))
        return -1; /* blocking: a full backlog is waited for */
    prepare(c->fd, address.ss_family);
    watch(epoll, EPOLL_CTL_ADD, c->fd, EPOLLIN, c);
    c->in.start = c->in.end = c->out.start = c->out.end = 0;
    c->waiting = c->state = 0;
    return 0;
}

/* It has no more to do. */
static void rest(struct connection *c)
{
    alive -= c->active;
    c->active = 0;
}

static void give_up(struct connection *c)
{
    for (int lane = 0; lane < c->lanes; lane++)
        if (c->lane[lane].busy)
            errors++, c->lane[lane].busy = 0;
    close(c->fd);
    c->fd = -1;
    rest(c);
}

/* Ask on every free lane as long as there is time. */
static void go_on(struct connection *c)
{
    int busy = 0, in_time = now_ns() < stop_at;
    for (int lane = 0; lane < c->lanes; lane++) {
        if (!c->lane[lane].busy && c->left && in_time) {
            uint64_t asked = now_ns();
            if (reconnect && c->fd >= 0) {
                close(c->fd);
                c->fd = -1;
            }
            if (c->fd < 0 && (!reconnect || open_connection(c))) {
                errors++;
                rest(c);
                return;
            }
            c->lane[lane] = (struct lane){.asked = asked, .busy = 1};
            c->left--;
            mode.ask(c, lane);
        }
        busy |= c->lane[lane].busy;
    }
    if (flush(epoll, c->fd, &c->out, &c->waiting, c))
        give_up(c);
    else if (!busy)
        rest(c);
}

static void serve(struct connection *c, uint32_t what)
{
    if (what & EPOLLOUT && flush(epoll, c->fd, &c->out, &c->waiting, c)) {
        give_up(c);
        return;
    }
    if (!(what & ~(uint32_t)EPOLLOUT))
        return;
    ssize_t got = fill(c->fd, &c->in);
    if (got < 0 ? !mode.gone(c) : got && mode.take(c))
        give_up(c);
    else if (got)
        go_on(c);
}

static int count;
static struct connection *all;

/* What has been used and seen up to a moment. */
struct reading {
    double own, measured, beside;
    uint64_t at, events;
};

static struct reading look(void)
{
    return (struct reading){cpu_by(CLOCK_PROCESS_CPUTIME_ID), cpu_of(option("cpu", "")),
                            cpu_of(option("beside", "")), now_ns(), events_seen};
}

static struct reading from, until;

#define WARM_UP 10 /* seconds that a warm-up may take, on a busy machine; it ends with its answers */

/* Let every connection make its requests, for so many seconds, and wait for their answers. */
static void run(uint64_t each, double seconds, double spread, uint64_t from_ns, uint64_t until_ns)
{
    int begun = 0;
    from = look();
    until.at = 0;
    started = now_ns();
    stop_at = started + (uint64_t)(seconds * 1e9);
    uint64_t end = stop_at + (uint64_t)(number("drain", "0") * 1e9);
    for (alive = 0; alive < count; alive++) {
        all[alive].left = each;
        all[alive].active = 1;
    }
    for (uint64_t now = started; alive && now < end; now = now_ns()) {
        struct epoll_event found[EVENTS_A_TURN];
        uint64_t wake = end;
        if (from_ns && now - started >= from_ns) {
            from = look();
            from_ns = 0;
        }
        if (until_ns && !until.at && now - started >= until_ns)
            until = look();
        for (; begun < count; begun++) {
            uint64_t at = started + (uint64_t)(spread * begun / count);
            if (at > now) {
                wake = at < end ? at : end;
                break;
            }
            go_on(&all[begun]);
        }
        now = now_ns();
        if (from_ns && started + from_ns < wake)
            wake = started + from_ns;
        if (until_ns && !until.at && started + until_ns < wake)
            wake = started + until_ns;
        uint64_t nap = wake > now && alive ? wake - now : 0;
        struct timespec timeout = {(time_t)(nap / 1000000000u), (long)(nap % 1000000000u)};
        int ready = epoll_pwait2(epoll, found, EVENTS_A_TURN, &timeout, NULL);
        for (int i = 0; i < ready; i++)
            serve(found[i].data.ptr, found[i].events);
    }
    if (!until.at)
        until = look();
}

static void run_clients(struct buffer warm_up)
{
    uint64_t each = (uint64_t)number("each", "0");
    double spread = number("spread", "0") * 1e6;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    count = (int)number("connections", "1");
    all = calloc((size_t)count, sizeof *all);
    address_size = parse_address(option("to", NULL), &address);
    for (int i = 0; i < count; i++) {
        all[i].lanes = (int)number("lanes", "1");
        all[i].fd = -1;
        if (all[i].lanes > MAX_LANES)
            die("at most %d lanes", MAX_LANES);
        if (!reconnect && open_connection(&all[i]))
            die("cannot connect: %s", strerror(errno));
    }
    if (warm_up.end) {
        struct buffer saved = request;
        request = warm_up;
        run((uint64_t)all[0].lanes, WARM_UP, spread, 0, 0);
        if (errors || alive)
            die("the warm-up failed on %d of %d connections", (int)errors + alive, count);
        request = saved;
        memset(&latency, 0, sizeof latency);
        memset(&first_event, 0, sizeof first_event);
        memset(&event_age, 0, sizeof event_age);
        ops = events_seen = bytes_seen = 0;
    }
    expected = (uint64_t)number("events", "0");
    run(each ? each : UINT64_MAX, number("seconds", "1"), spread,
        (uint64_t)(number("from", "0") * 1e6), (uint64_t)(number("until", "0") * 1e6));
    double seconds = (double)(now_ns() - started) / 1e9;
    uint64_t unfinished = 0;
    for (int i = 0; i < count; i++) {
        for (int lane = 0; lane < all[i].lanes; lane++)
            unfinished += (uint64_t)all[i].lane[lane].busy;
        if (each) /* never begun */
            unfinished += all[i].left;
    }
    printf("{\"ops\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"unfinished\": %" PRIu64
           ", \"wall_s\": %.6f, \"events\": %" PRIu64 ", \"bytes\": %" PRIu64,
           ops, errors, unfinished, seconds, events_seen, bytes_seen);
    printf(", \"generator_cpu_s\": %.6f, \"server_cpu_s\": %.6f, \"beside_cpu_s\": %.6f"
           ", \"window_s\": %.6f, \"window_events\": %" PRIu64,
           until.own - from.own, until.measured - from.measured, until.beside - from.beside,
           (double)(until.at - from.at) / 1e9, until.events - from.events);
    print_histogram("", &latency);
    print_histogram("first_event_", &first_event);
    print_histogram("event_", &event_age);
    puts("}");
}

static int gone_is_failure(struct connection *c)
{
    (void)c;
    return 0;
}

static void ask_as_given(struct connection *c, int lane)
{
    (void)lane;
    append(&c->out, request.bytes, request.end);
}

/* -- MessagePack, as far as answers need it --------------------------------------------------------- */

static size_t big_endian(const u8 *p, unsigned size)
{
    size_t value = 0;
    while (size--)
        value = value << 8 | *p++;
    return value;
}

/* Read one type byte with its length: what it holds in bytes, and how many values follow. */
static const u8 *mp_head(const u8 *p, const u8 *end, size_t *size, size_t *values)
{
    unsigned kind = *p++, wide = 0;
    int each = 0; /* values per length; 0: bytes */
    *size = *values = 0;
    if (kind < 0x80 || kind >= 0xe0 || (kind >= 0xc0 && kind <= 0xc3))
        return p;
    if (kind < 0xa0) {
        *values = (kind & 15) * (kind < 0x90 ? 2 : 1);
        return p;
    }
    if (kind < 0xc0) {
        *size = kind & 31;
        return p;
    }
    if (kind >= 0xca && kind <= 0xd3) { /* numbers */
        *size = kind == 0xca ? 4 : kind == 0xcb ? 8 : 1u << ((kind - 0xcc) & 3);
        return p;
    }
    if (kind >= 0xc4 && kind <= 0xc6)
        wide = 1u << (kind - 0xc4);
    else if (kind >= 0xd9 && kind <= 0xdb)
        wide = 1u << (kind - 0xd9);
    else if (kind >= 0xdc)
        wide = 2u << (kind & 1), each = kind >= 0xde ? 2 : 1;
    else
        die("type byte %#x is not used on this wire", kind);
    if (p + wide > end)
        return NULL;
    *(each ? values : size) = big_endian(p, wide) * (size_t)(each ? each : 1);
    return p + wide;
}

/* Where the value at `p` ends; NULL while bytes are missing. */
static const u8 *mp_skip(const u8 *p, const u8 *end)
{
    for (size_t open = 1; open; open--) {
        size_t size, values;
        if (p >= end || !(p = mp_head(p, end, &size, &values)) || size > (size_t)(end - p))
            return NULL;
        p += size;
        open += values;
    }
    return p;
}

/* The value of `key` in the map at `p`; NULL when it is not there. */
static const u8 *mp_get(const u8 *p, const u8 *end, const char *key)
{
    size_t size, values;
    p = mp_head(p, end, &size, &values);
    for (; values; values -= 2) {
        const u8 *name = mp_head(p, end, &size, &(size_t){0});
        p = mp_skip(p, end);
        if (size == strlen(key) && !memcmp(name, key, size))
            return p;
        p = mp_skip(p, end);
    }
    return NULL;
}

static uint64_t mp_uint(const u8 *p)
{
    return *p < 0x80 ? *p : big_endian(p + 1, 1u << (*p - 0xcc));
}

/* -- rtt ---------------------------------------------------------------------------------------------- */

static size_t reply_size; /* 0: until the end of file */
static int reply_is_msgpack;

static int rtt_take(struct connection *c)
{
    size_t have = c->in.end - c->in.start;
    if (reply_is_msgpack) {
        const u8 *p = c->in.bytes + c->in.start, *end = mp_skip(p, p + have);
        if (!end)
            return 0;
        c->in.start += (size_t)(end - p);
    } else {
        if (!reply_size || have < reply_size)
            return 0;
        c->in.start += reply_size;
    }
    bytes_seen += have;
    finish(&c->lane[0], 1, 0);
    return 0;
}

static int rtt_gone(struct connection *c)
{
    if (reply_size || reply_is_msgpack || c->in.start == c->in.end)
        return 0;
    c->in.start = c->in.end;
    finish(&c->lane[0], 1, 0);
    return 1;
}

/* -- http ---------------------------------------------------------------------------------------------- */

/* Where the line or head that ends in `mark` is over; 0 while it is not. */
static size_t past(const u8 *p, size_t have, const char *mark)
{
    const u8 *found = memmem(p, have, mark, strlen(mark));
    return found ? (size_t)(found - p) + strlen(mark) : 0;
}

/* A header's value in the head that ends at `end`; NULL when it is not there. */
static const char *header(const u8 *p, const u8 *end, const char *name)
{
    size_t size = strlen(name);
    while ((p = memchr(p, '\n', (size_t)(end - p))) && (size_t)(end - ++p) > size + 1)
        if (p[size] == ':' && !strncasecmp((const char *)p, name, size)) {
            for (p += size + 1; *p == ' '; p++)
                ;
            return (const char *)p;
        }
    return NULL;
}

static void http_finish(struct connection *c)
{
    finish(&c->lane[0], c->sound, c->streamed);
    c->state = HEAD;
}

static int http_take(struct connection *c)
{
    while (c->in.start < c->in.end) {
        const u8 *p = c->in.bytes + c->in.start;
        size_t have = c->in.end - c->in.start, used = have;
        if (!c->lane[0].busy)
            return -1; /* nothing was asked */
        switch (c->state) {
        case HEAD: {
            if (!(used = past(p, have, "\r\n\r\n")))
                return 0;
            const char *size = header(p, p + used, "content-length");
            const char *coding = header(p, p + used, "transfer-encoding");
            const char *type = header(p, p + used, "content-type");
            c->sound = used > 12 && !memcmp(p + 8, " 200", 4);
            c->streamed = type && !strncmp(type, "text/event-stream", 17);
            if (coding)
                c->state = CHUNK_SIZE;
            else if (size && (c->missing = strtoull(size, NULL, 10)))
                c->state = LENGTH;
            else
                return -1; /* no body, or one that lasts until the end of file */
            break;
        }
        case LENGTH:
        case CHUNK:
            used = have < c->missing ? have : c->missing;
            meter(&c->lane[0], p, used);
            if (!(c->missing -= used)) {
                if (c->state == LENGTH)
                    http_finish(c);
                else
                    c->state = CHUNK_END;
            }
            break;
        case CHUNK_SIZE:
            if (!(used = past(p, have, "\r\n")))
                return 0;
            c->missing = strtoull((const char *)p, NULL, 16);
            c->state = c->missing ? CHUNK : TRAILER;
            break;
        case CHUNK_END:
            if (have < 2)
                return 0;
            used = 2;
            c->state = CHUNK_SIZE;
            break;
        case TRAILER:
            if (!(used = past(p, have, "\r\n")))
                return 0;
            if (used == 2)
                http_finish(c);
            break;
        }
        c->in.start += used;
    }
    return 0;
}

/* -- rpc: client/PROTOCOL.md ----------------------------------------------------------------------------- */

static int rpc_streamed;
static size_t msgid_at;

/* `[0, msgid, "completion.create", [{path, body, stream}]]`; the msgid, five bytes, is the lane. */
static struct buffer rpc_request(const char *path)
{
    struct buffer made = {0}, body = read_file(path);
    u8 size[4] = {(u8)(body.end >> 24), (u8)(body.end >> 16), (u8)(body.end >> 8), (u8)body.end};
    append(&made, "\x94\x00", 2);
    msgid_at = made.end;
    append(&made, "\xce\0\0\0\0\xb1" "completion.create" "\x91\x83\xa4" "path", 30);
    append(&made, "\xb1/chat/completions\xa6stream", 25);
    append(&made, rpc_streamed ? "\xc3" : "\xc2", 1);
    append(&made, "\xa4" "body\xc6", 6);
    append(&made, size, 4);
    append(&made, body.bytes, body.end);
    return made;
}

static void rpc_ask(struct connection *c, int lane)
{
    append(&c->out, request.bytes, request.end);
    c->out.bytes[c->out.end - request.end + msgid_at + 4] = (u8)lane;
}

static int rpc_response(struct connection *c, const u8 *p, const u8 *end)
{
    uint64_t msgid = mp_uint(p);
    struct lane *lane = &c->lane[msgid < MAX_LANES ? msgid : 0];
    const u8 *error = mp_skip(p, end), *result = mp_skip(error, end);
    if (!lane->busy || lane->stream)
        return -1;
    if (*error != 0xc0) {
        static int told;
        if (!told++)
            fprintf(stderr, "load: refused: %.*s\n", (int)(result - error), (const char *)error);
        finish(lane, 0, 0);
        return 0;
    }
    const u8 *status = mp_get(result, end, "status");
    const u8 *stream = mp_get(result, end, "stream"), *body = mp_get(result, end, "body");
    int sound = status && mp_uint(status) == 200;
    if (stream && sound)
        lane->stream = mp_uint(stream);
    else {
        size_t size = 0;
        if (body)
            mp_head(body, end, &size, &(size_t){0});
        bytes_seen += size;
        finish(lane, sound && size, 0);
    }
    return 0;
}

static int rpc_notification(struct connection *c, const u8 *p, const u8 *end)
{
    size_t size, values;
    const u8 *method = p, *params = mp_skip(p, end);
    method = mp_head(method, end, &size, &values);
    const u8 *map = mp_head(params, end, &(size_t){0}, &values);
    const u8 *id = mp_get(map, end, "stream");
    struct lane *lane = NULL;
    for (int i = 0; id && i < c->lanes; i++)
        if (c->lane[i].busy && c->lane[i].stream == mp_uint(id))
            lane = &c->lane[i];
    if (!lane)
        return 0;
    if (size == 10 && !memcmp(method, "stream.end", 10)) {
        finish(lane, !mp_get(map, end, "error"), 1);
        return 0;
    }
    const u8 *chunk = mp_get(map, end, "chunk");
    if (size != 11 || memcmp(method, "stream.data", 11) || !chunk)
        return -1;
    chunk = mp_head(chunk, end, &size, &values);
    meter(lane, chunk, size);
    if ((lane->unused += size) >= WINDOW / 2) { /* lazily: a message per half window */
        uint32_t stream = (uint32_t)lane->stream, nbytes = (uint32_t)lane->unused;
        u8 words[] = {0xce, (u8)(stream >> 24), (u8)(stream >> 16), (u8)(stream >> 8), (u8)stream,
                      0xa5, 'b', 'y', 't', 'e', 's',
                      0xce, (u8)(nbytes >> 24), (u8)(nbytes >> 16), (u8)(nbytes >> 8), (u8)nbytes};
        append(&c->out, "\x93\x02\xadstream.credit\x91\x82\xa6stream", 25);
        append(&c->out, words, sizeof words);
        lane->unused = 0;
    }
    return 0;
}

static int rpc_take(struct connection *c)
{
    for (;;) {
        const u8 *p = c->in.bytes + c->in.start, *have = c->in.bytes + c->in.end;
        const u8 *end = mp_skip(p, have);
        if (!end)
            return 0;
        if (end - p < 4 || (p[0] != 0x94 && p[0] != 0x93))
            return -1;
        if (p[1] == 1 ? rpc_response(c, p + 2, end) : rpc_notification(c, p + 2, end))
            return -1;
        c->in.start += (size_t)(end - p);
    }
}

/* -- upstream: the fake Copilot ------------------------------------------------------------------------- */

struct caller {
    int fd, waiting, gone;
    struct buffer in, out;
    uint64_t next, pace; /* of a paced stream: when the next event is due, ns between two */
    unsigned left;       /* events still to come; the one after the last is [DONE] */
    size_t slot;         /* its place in the heap; 0: none */
};

/* Paced streams by the time of their next event: a heap, first place is 1. */
static struct caller **heap;
static size_t waiting_streams, heap_room;

static void place(struct caller *caller, size_t slot)
{
    heap[slot] = caller;
    caller->slot = slot;
}

static void sift(size_t slot)
{
    struct caller *moved = heap[slot];
    for (; slot > 1 && heap[slot / 2]->next > moved->next; slot /= 2)
        place(heap[slot / 2], slot);
    for (size_t child; (child = slot * 2) <= waiting_streams; slot = child) {
        if (child < waiting_streams && heap[child + 1]->next < heap[child]->next)
            child++;
        if (heap[child]->next >= moved->next)
            break;
        place(heap[child], slot);
    }
    place(moved, slot);
}

static void schedule(struct caller *caller)
{
    if (waiting_streams + 2 > heap_room) {
        heap_room = heap_room * 2 + 64;
        if (!(heap = realloc(heap, heap_room * sizeof *heap)))
            die("no memory");
    }
    place(caller, ++waiting_streams);
    sift(caller->slot);
}

static void unschedule(struct caller *caller)
{
    size_t slot = caller->slot;
    if (!slot)
        return;
    caller->slot = 0;
    if (slot != waiting_streams--) {
        place(heap[waiting_streams + 1], slot);
        sift(slot);
    }
}

/* What Copilot sends with every answer: a broker has to read and to pass on as much as in earnest. */
#define COMMON                                                                                     \
    "date: Sat, 21 Nov 2026 12:00:00 GMT\r\ncontent-security-policy: default-src 'none'; sandbox\r\n" \
    "strict-transport-security: max-age=31536000\r\nx-content-type-options: nosniff\r\n"            \
    "x-github-backend: Kubernetes\r\nx-github-request-id: 9A3C:1F2E:8D7B6:A5C4D:6563F0E2\r\n"       \
    "x-request-id: 00000000-0000-4000-8000-000000000000\r\n"

/* One event in a chunk of its own; without a stamp it is called x instead of t. */
static void event_line(struct buffer *b, uint64_t stamp, int bare)
{
    static char forms[2][256];
    static size_t sizes[2], key, last;
    char *form = forms[bare];
    size_t size = sizes[bare];
    if (!size) {
        char event[256];
        size = (size_t)snprintf(event, sizeof event,
            "data: {\"t\":%019d,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}],"
            "\"created\":1795262400,\"id\":\"chatcmpl-bench\",%s\"model\":\"gpt-4o-2024-11-20\"}\n\n",
            0, bare ? "" : "\"object\":\"chat.completion.chunk\",");
        size = sizes[bare] = (size_t)snprintf(form, sizeof forms[0], "%zx\r\n%s\r\n", size, event);
        key = (size_t)(strstr(form, "\"t\"") + 1 - form);
        last = key + 3 + 18;
    }
    form[key] = stamp ? 't' : 'x';
    for (size_t at = last; at > last - 19; at--, stamp /= 10)
        form[at] = (char)('0' + stamp % 10);
    append(b, form, size);
}

static void stream_head(struct buffer *b)
{
    print(b, "HTTP/1.1 200 OK\r\n" COMMON "content-type: text/event-stream\r\ncache-control: no-cache\r\n"
             "transfer-encoding: chunked\r\n\r\n");
}

static void stream_end(struct buffer *b)
{
    print(b, "%x\r\n%s\r\n0\r\n\r\n", TAIL, DONE);
}

static void plain(struct buffer *b, const char *status, const char *body)
{
    print(b, "HTTP/1.1 %s\r\n" COMMON "content-type: application/json\r\ncontent-length: %zu\r\n\r\n",
          status, strlen(body));
    append(b, body, strlen(body));
}

static const char *completion(void)
{
    static char text[2048];
    if (!*text) {
        char words[701];
        for (size_t i = 0; i < sizeof words - 1; i++)
            words[i] = "lorem ipsum "[i % 12];
        words[sizeof words - 1] = 0;
        snprintf(text, sizeof text,
            "{\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":{\"content\":\"%s\","
            "\"role\":\"assistant\"}}],\"created\":1795262400,\"id\":\"chatcmpl-bench\","
            "\"model\":\"gpt-4o-2024-11-20\",\"object\":\"chat.completion\",\"usage\":{"
            "\"completion_tokens\":120,\"prompt_tokens\":12,\"total_tokens\":132}}", words);
    }
    return text;
}

static const char *models(void)
{
    static struct buffer list;
    if (!list.end) {
        const char *names[] = {"bench-json", "bench-burst-200", "bench-bare-200", "bench-paced-200-10"};
        append(&list, "{\"object\":\"list\",\"data\":[", 25);
        for (int i = 0; i < 4; i++)
            print(&list, "%s{\"id\":\"%s\",\"name\":\"%s\",\"object\":\"model\",\"vendor\":\"Bench\","
                  "\"version\":\"%s\",\"preview\":false,\"model_picker_enabled\":true,"
                  "\"capabilities\":{\"family\":\"gpt-4o\",\"object\":\"model_capabilities\","
                  "\"type\":\"chat\",\"tokenizer\":\"o200k_base\",\"limits\":{"
                  "\"max_context_window_tokens\":128000,\"max_prompt_tokens\":128000,"
                  "\"max_output_tokens\":16384},\"supports\":{\"streaming\":true}}}",
                  i ? "," : "", names[i], names[i], names[i]);
        append(&list, "]}", 3);
    }
    return (const char *)list.bytes;
}

static void answer(struct caller *caller, const u8 *head, const u8 *body, size_t size)
{
    static struct buffer bursts[2];
    static unsigned burst_events[2];
    unsigned events = 0, pace = 0, bare = 0;
    char model[64] = "";
    if (!memcmp(head, "GET ", 4)) {
        int known = memmem(head, 64, "/models ", 8) != NULL;
        plain(&caller->out, known ? "200 OK" : "404 Not Found", known ? models() : "{}");
        return;
    }
    const u8 *at = memmem(body, size, "\"model\"", 7), *end = body + size;
    if (at && (at = memchr(at + 7, '"', (size_t)(end - at - 7)))) {
        at++;
        const u8 *stop = memchr(at, '"', (size_t)(end - at));
        if (stop && (size_t)(stop - at) < sizeof model)
            memcpy(model, at, (size_t)(stop - at));
    }
    if (!strcmp(model, "bench-json")) {
        static struct buffer whole;
        if (!whole.end)
            plain(&whole, "200 OK", completion());
        append(&caller->out, whole.bytes, whole.end);
        return;
    }
    if (sscanf(model, "bench-paced-%u-%u", &events, &pace) == 2 && pace && events && !caller->slot) {
        stream_head(&caller->out);
        caller->left = events;
        caller->pace = (uint64_t)pace * 1000000;
        caller->next = now_ns(); /* the first event at once: the time to it is all the proxy's */
        schedule(caller);
    } else if ((sscanf(model, "bench-burst-%u", &events) == 1 ||
                (bare = sscanf(model, "bench-bare-%u", &events) == 1)) && events) {
        struct buffer *burst = &bursts[bare];
        if (events != burst_events[bare]) {
            burst->end = 0;
            stream_head(burst);
            for (unsigned i = 0; i < events; i++)
                event_line(burst, 0, (int)bare);
            stream_end(burst);
            burst_events[bare] = events;
        }
        append(&caller->out, burst->bytes, burst->end);
    } else
        plain(&caller->out, "400 Bad Request", "{\"error\":{\"message\":\"no such model\"}}");
}

/* Answer each request that is there whole; -1 for one that this server does not understand. */
static int answer_all(struct caller *caller)
{
    while (caller->in.start < caller->in.end) {
        u8 *p = caller->in.bytes + caller->in.start;
        size_t have = caller->in.end - caller->in.start, head = past(p, have, "\r\n\r\n");
        if (!head)
            return have > READ_SIZE ? -1 : 0;
        const char *length = header(p, p + head, "content-length");
        if (header(p, p + head, "transfer-encoding"))
            return -1; /* nobody needs it here */
        size_t size = length ? strtoull(length, NULL, 10) : 0;
        if (have < head + size) {
            reserve(&caller->in, head + size - have);
            return 0;
        }
        answer(caller, p, p + head, size);
        caller->in.start += head + size;
    }
    return 0;
}

/* Send the events that are due; returns when the next one is. */
static uint64_t send_due(void)
{
    while (waiting_streams) {
        struct caller *caller = heap[1];
        uint64_t now = now_ns();
        if (caller->next > now)
            return caller->next;
        if (caller->left) {
            event_line(&caller->out, now, 0);
            caller->left--;
            caller->next += caller->pace;
        }
        if (caller->left)
            sift(1);
        else {
            stream_end(&caller->out);
            unschedule(caller);
        }
        if (flush(epoll, caller->fd, &caller->out, &caller->waiting, caller)) {
            caller->gone = 1; /* epoll tells of it too; it is freed there */
            unschedule(caller);
        }
    }
    return UINT64_MAX;
}

static void run_upstream(void)
{
    int on = 1, listener;
    struct sockaddr_storage bound;
    address_size = parse_address(option("listen", NULL), &address);
    listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, address_size) || listen(listener, 4096))
        die("listen: %s", strerror(errno));
    fcntl(listener, F_SETFL, O_NONBLOCK);
    getsockname(listener, (struct sockaddr *)&bound, &(socklen_t){sizeof bound});
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    printf("{\"port\": %d}\n", ntohs(((struct sockaddr_in *)&bound)->sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event found[EVENTS_A_TURN];
        uint64_t due = send_due(), now = now_ns(), nap = due > now ? due - now : 0;
        struct timespec timeout = {(time_t)(nap / 1000000000u), (long)(nap % 1000000000u)};
        int ready = epoll_pwait2(epoll, found, EVENTS_A_TURN, due == UINT64_MAX ? NULL : &timeout, NULL);
        for (int i = 0; i < ready; i++) {
            struct caller *caller = found[i].data.ptr;
            if (!caller) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                    prepare(fd, address.ss_family);
                    caller = calloc(1, sizeof *caller);
                    caller->fd = fd;
                    watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, caller);
                }
                continue;
            }
            ssize_t got = caller->gone ? -1 : 1;
            if (got > 0 && found[i].events & ~(uint32_t)EPOLLOUT)
                got = fill(caller->fd, &caller->in);
            if (got < 0 || answer_all(caller) ||
                flush(epoll, caller->fd, &caller->out, &caller->waiting, caller)) {
                unschedule(caller);
                close(caller->fd);
                free(caller->in.bytes);
                free(caller->out.bytes);
                free(caller);
            }
        }
    }
}

/* -- main -------------------------------------------------------------------------------------------------- */

int main(int argc, char **words)
{
    const char *name = argc > 1 ? words[1] : "";
    options = argc > 1 ? words + 2 : words + 1;
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!strcmp(name, "upstream"))
        run_upstream();
    if (!strcmp(name, "rtt")) {
        const char *reply = option("reply", NULL);
        reply_is_msgpack = !strcmp(reply, "msgpack");
        reply_size = strtoull(reply, NULL, 10);
        reconnect = (int)number("reconnect", "0");
        mode = (struct mode){ask_as_given, rtt_take, rtt_gone};
        request = read_file(option("request", NULL));
    } else if (!strcmp(name, "http")) {
        mode = (struct mode){ask_as_given, http_take, gone_is_failure};
        request = read_file(option("request", NULL));
    } else if (!strcmp(name, "rpc")) {
        rpc_streamed = (int)number("stream", "0");
        mode = (struct mode){rpc_ask, rpc_take, gone_is_failure};
        request = rpc_request(option("body", NULL));
    } else
        die("say rtt, http, rpc or upstream, see the top of load.c");
    const char *warm = option("warm", "");
    struct buffer warm_up = {0};
    if (*warm)
        warm_up = mode.ask == rpc_ask ? rpc_request(warm) : read_file(warm);
    run_clients(warm_up);
    return 0;
}
