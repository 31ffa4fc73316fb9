// Reference: the least that a process can do, one send() for each stream, of all that a turn writes.
//
//   send BYTES STREAMS BURST WARMUP LEAD TURNS LEAST INTERVAL
//
// It says and hears what harness.ts does. LEAST and INTERVAL are in milliseconds.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
static const char FILLER[] = "the quick brown fox jumps over the lazy dog ";

static size_t bytes;
static int streams, burst, turns, id;
static int *fds;
static char *data, *frames;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int64_t cpu_time(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static void await_byte(void) {
  char byte;
  // Whoever started this process is gone: however that came about, nothing is left behind.
  if (read(STDIN_FILENO, &byte, 1) != 1) exit(0);
}

static int accept_stream(int listener) {
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) fail("accept");
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  static char request[1 << 16];
  // The client's request comes in one piece.
  if (read(fd, request, sizeof request) <= 0) fail("read");
  if (send(fd, HEAD, sizeof HEAD - 1, 0) < 0) fail("send");
  return fd;
}

static void write_turn(void) {
  int length = 0;
  for (int write = 0; write < burst; write += 1) length += sprintf(frames + length, "id: %d\ndata: %s\n\n", ++id, data);
  for (int stream = 0; stream < streams; stream += 1) {
    if (send(fds[stream], frames, (size_t)length, 0) != length) fail("send");
  }
  turns += 1;
  await_byte();
}

int main(int count, char **arguments) {
  if (count != 9) return 2;
  bytes = (size_t)atoi(arguments[1]);
  streams = atoi(arguments[2]);
  burst = atoi(arguments[3]);
  int warmup = atoi(arguments[4]), lead = atoi(arguments[5]), least_turns = atoi(arguments[6]);
  int64_t least = atoi(arguments[7]) * 1000000LL, interval = atoi(arguments[8]) * 1000000LL;

  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  struct sockaddr_in local = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  socklen_t size = sizeof local;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&local, size) != 0 || listen(listener, 1024) != 0) fail("listen");
  getsockname(listener, (struct sockaddr *)&local, &size);
  printf("{\"port\":%d,\"path\":\"/\"}\n", ntohs(local.sin_port));
  fflush(stdout);

  fds = calloc((size_t)streams, sizeof *fds);
  for (int id = 0; id < streams; id += 1) fds[id] = accept_stream(listener);
  await_byte();

  data = malloc(bytes + 1);
  frames = malloc((bytes + 64) * (size_t)burst);
  for (size_t at = 0; at < bytes; at += 1) data[at] = at == 0 ? '^' : FILLER[(at - 1) % (sizeof FILLER - 1)];
  data[bytes] = 0;
  for (int turn = 0; turn < warmup; turn += 1) write_turn();
  printf("{\"ready\":true}\n");
  fflush(stdout);
  for (;;) {
    await_byte();
    for (int turn = 0; turn < lead; turn += 1) write_turn();
    int64_t cpu = cpu_time(), start = now();
    int first = turns;
    const char *comma = "";
    printf("{\"times\":[");
    while (turns - first < least_turns || now() - start < least) {
      int64_t written = now();
      if (interval > 0) printf("%s\"%d %lld\"", comma, turns, (long long)written);
      comma = ",";
      write_turn();
      int64_t rest = written + interval - now();
      if (rest > 0) poll(NULL, 0, (int)(rest / 1000000));
    }
    printf("],\"cpu\":%lld,\"elapsed\":%lld,\"measured\":%d,\"turns\":%d}\n", (long long)(cpu_time() - cpu),
           (long long)((now() - start) / 1000), turns - first, turns);
    fflush(stdout);
  }
}
