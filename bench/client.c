// The clients of a round, in one process: opens streams, and counts every event that comes on them.
//
//   client ADDRESS PORT PATHS PROTOCOL FIRST REST PARTS WINDOW TURN TURNS
//
// PATHS is a file with a path a line, of which stream n opens the n-th and begins again after the last. PROTOCOL is
// http, ws or socket.io. It opens FIRST streams, and REST more for each of the first PARTS bytes that come on stdin, at
// most WINDOW at a time. A byte goes to fd 3 whenever all of them are open, and whenever TURN more events have come. Of
// TURNS turns it remembers when each stream had its last event.
//
// An event is the byte '^', which a server sends in nothing else. What comes on stdin later is lines, "NUMBER NS": when
// a turn was written. At its end the client prints "OPEN TOTAL FEWEST MOST P50 P99 LAST": streams that are still open,
// events of all, of one stream, and nanoseconds from a write to its arrival (the last of a turn: the median).

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READY = 1024, ACKNOWLEDGE = 3, QUIET_MS = 50, NAP_NS = 1000, PAUSE_NS = 20000, MARK = '^', NONE = -1 };

typedef struct {
  int fd;
  int is_open;
  int braces; // of socket.io: those of its two greetings
  long events;
} Stream;

static const char *address, *protocol;
static int port, window, epoll;
static char **paths;
static int path_count;
static Stream *streams;
static int stream_count, started, opened, ended;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void acknowledge(void) {
  if (write(ACKNOWLEDGE, "", 1) != 1) fail("acknowledge");
}

static void read_paths(const char *name) {
  FILE *file = fopen(name, "r");
  if (file == NULL) fail(name);
  char *line = NULL;
  size_t room = 0;
  for (ssize_t length; (length = getline(&line, &room, file)) > 0; path_count += 1) {
    line[length - 1] = 0;
    paths = realloc(paths, ((size_t)path_count + 1) * sizeof *paths);
    paths[path_count] = strdup(line);
  }
  free(line);
  fclose(file);
}

static void send_all(int fd, const char *bytes, size_t length) {
  if (write(fd, bytes, length) != (ssize_t)length) fail("write");
}

static void watch(int fd, int id) {
  struct epoll_event event = { .events = EPOLLIN, .data.u32 = (unsigned)id };
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

static void open_stream(int id) {
  static char request[1 << 16];
  struct sockaddr_in server = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
  inet_pton(AF_INET, address, &server.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0) fail("connect");
  const char *upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
  int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%d\r\n%s\r\n", paths[id % path_count],
                        address, port, strcmp(protocol, "http") == 0 ? "Accept: text/event-stream\r\n" : upgrade);
  send_all(fd, request, (size_t)length);
  streams[id].fd = fd;
  watch(fd, id);
}

static void open_more(int target) {
  while (started < target && started - opened < window) open_stream(started++);
}

// A frame of a client's is masked: here by zeros.
static void send_frame(int fd, const char *text) {
  char frame[16] = { (char)0x81, (char)(0x80 | strlen(text)) };
  strcpy(frame + 6, text);
  send_all(fd, frame, 6 + strlen(text));
}

static void greet(Stream *stream, const char *bytes, ssize_t size) {
  if (stream->braces == 0 && strncmp(bytes, "HTTP/1.1 200", 12) != 0 && strncmp(bytes, "HTTP/1.1 101", 12) != 0) {
    fprintf(stderr, "refused: %.*s\n", (int)(size < 200 ? size : 200), bytes);
    exit(1);
  }
  if (strcmp(protocol, "socket.io") == 0) {
    // engine.io says that it is open, and then socket.io that its namespace is: the only JSON before the events.
    if (stream->braces == 0) stream->braces = 1;
    for (ssize_t at = 0; at < size; at += 1) {
      if (bytes[at] != '{') continue;
      stream->braces += 1;
      if (stream->braces == 2) send_frame(stream->fd, "40");
    }
    if (stream->braces < 3) return;
  }
  stream->is_open = 1;
  opened += 1;
}

static int ascending(const void *a, const void *b) {
  int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
  return (left > right) - (left < right);
}

/** Prints the delays, from the lines that came on stdin and what was remembered of the turns they name. */
static void print_delays(char *lines, const int64_t *arrivals, int turns) {
  int64_t *delays = malloc(((size_t)turns * (size_t)stream_count + 1) * sizeof *delays);
  int64_t *lasts = calloc((size_t)turns + 1, sizeof *lasts);
  size_t count = 0;
  int said = 0;
  for (char *line = strtok(lines, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    int turn;
    long long written;
    if (sscanf(line, "%d %lld", &turn, &written) != 2 || turn >= turns) continue;
    for (int id = 0; id < stream_count; id += 1) {
      int64_t delay = arrivals[(size_t)turn * (size_t)stream_count + (size_t)id] - written;
      delays[count++] = delay;
      if (delay > lasts[said]) lasts[said] = delay;
    }
    said += 1;
  }
  qsort(delays, count, sizeof *delays, ascending);
  qsort(lasts, (size_t)said, sizeof *lasts, ascending);
  printf(" %lld %lld %lld\n", count ? (long long)delays[count / 2] : 0, count ? (long long)delays[count * 99 / 100] : 0,
         (long long)lasts[said / 2]);
}

int main(int count, char **arguments) {
  if (count != 11) return 2;
  address = arguments[1];
  port = atoi(arguments[2]);
  read_paths(arguments[3]);
  protocol = arguments[4];
  int target = atoi(arguments[5]);
  int rest = atoi(arguments[6]);
  stream_count = target + rest * atoi(arguments[7]);
  window = atoi(arguments[8]);
  long turn = atol(arguments[9]);
  int turns = atoi(arguments[10]);

  // The soft limit on files is often 1024.
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  epoll = epoll_create1(0);
  streams = calloc((size_t)stream_count, sizeof *streams);
  int64_t *arrivals = calloc((size_t)turns * (size_t)stream_count + 1, sizeof *arrivals);
  long burst = stream_count > 0 ? turn / stream_count : 0;
  watch(STDIN_FILENO, NONE);
  open_more(target);

  static char bytes[1 << 16];
  static char lines[1 << 16];
  size_t line_length = 0;
  struct epoll_event ready[READY];
  long total = 0;
  long due = turn;
  int acknowledged = 0;
  // After the end of stdin it reads on while anything comes, or an event too many would be missed.
  int ending = 0;
  for (;;) {
    // A client that is asleep is woken by a write, one that is busy is not, and the server pays for it. So where no time is
    // measured it looks by itself, some ten times in a fan-out, of however many streams: at a fixed time, what is but a little
    // slower might fall beyond one look more, and be kept from its processor's caches for as long. A client on another machine
    // costs the server no waking either.
    if (turn > 0 && turns == 0 && opened == stream_count && !ending) {
      nanosleep(&(struct timespec){ .tv_nsec = NAP_NS * (long)stream_count }, NULL);
    }
    // So it does while streams are opened and nothing else is measured, some ten times in the time that a window takes: or
    // the slower server, whose client sleeps more often, would have to wake it more often.
    if (turn == 0 && opened < target) nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS * (long)window }, NULL);
    int fresh = epoll_wait(epoll, ready, READY, ending ? QUIET_MS : -1);
    if (fresh == 0) break;
    for (int index = 0; index < fresh; index += 1) {
      int id = (int)ready[index].data.u32;
      int fd = id == NONE ? STDIN_FILENO : streams[id].fd;
      ssize_t size = read(fd, bytes, sizeof bytes);
      if (size <= 0) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
        if (id == NONE) ending = 1;
        else ended += 1;
        continue;
      }
      if (id == NONE) {
        target += rest * (int)size;
        if (target > stream_count) target = stream_count;
        if (line_length + (size_t)size < sizeof lines) memcpy(lines + line_length, bytes, (size_t)size);
        line_length += (size_t)size;
        continue;
      }
      Stream *stream = &streams[id];
      if (!stream->is_open) {
        greet(stream, bytes, size);
        continue;
      }
      long found = 0;
      for (ssize_t at = 0; at < size; at += 1) found += bytes[at] == MARK;
      stream->events += found;
      total += found;
      if (found > 0 && turns > 0) {
        long current = (stream->events - 1) / burst;
        if (current < turns) arrivals[(size_t)current * (size_t)stream_count + (size_t)id] = now();
      }
    }
    open_more(target);
    if (opened == target && acknowledged < target) {
      acknowledged = target;
      acknowledge();
    }
    for (; turn > 0 && total >= due && !ending; due += turn) acknowledge();
  }

  long fewest = stream_count > 0 ? streams[0].events : 0;
  long most = fewest;
  for (int id = 1; id < stream_count; id += 1) {
    if (streams[id].events < fewest) fewest = streams[id].events;
    if (streams[id].events > most) most = streams[id].events;
  }
  printf("%d %ld %ld %ld", opened - ended, total, fewest, most);
  print_delays(lines, arrivals, turns);
  return 0;
}
