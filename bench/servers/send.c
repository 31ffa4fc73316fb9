// Reference: the least that a process can do, one send() for each stream, of all that a turn writes.
//
//   send BYTES STREAMS BURST WARMUP TURNS INTERVAL
//
// It says and hears what harness.ts does.

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

static void await_turn(void) {
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

int main(int count, char **arguments) {
  if (count != 7) return 2;
  size_t bytes = (size_t)atoi(arguments[1]);
  int streams = atoi(arguments[2]), burst = atoi(arguments[3]), warmup = atoi(arguments[4]);
  int turns = warmup + atoi(arguments[5]), interval = atoi(arguments[6]);

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

  int *fds = calloc((size_t)streams, sizeof *fds);
  for (int id = 0; id < streams; id += 1) fds[id] = accept_stream(listener);
  await_turn();

  char *data = malloc(bytes + 1), *frames = malloc((bytes + 64) * (size_t)burst);
  for (size_t at = 0; at < bytes; at += 1) data[at] = at == 0 ? '^' : FILLER[(at - 1) % (sizeof FILLER - 1)];
  data[bytes] = 0;
  int64_t *times = calloc((size_t)turns, sizeof *times);
  int64_t cpu = cpu_time(), start = now();
  for (int turn = 0, id = 0; turn < turns; turn += 1) {
    if (turn == warmup) {
      cpu = cpu_time();
      start = now();
    }
    times[turn] = now();
    int length = 0;
    for (int write = 0; write < burst; write += 1) length += sprintf(frames + length, "id: %d\ndata: %s\n\n", ++id, data);
    for (int stream = 0; stream < streams; stream += 1) {
      if (send(fds[stream], frames, (size_t)length, 0) != length) fail("send");
    }
    await_turn();
    int64_t rest = times[turn] + interval * 1000000LL - now();
    if (rest > 0) poll(NULL, 0, (int)(rest / 1000000));
  }
  printf("{\"cpu\":%lld,\"elapsed\":%lld,\"times\":[", (long long)(cpu_time() - cpu), (long long)((now() - start) / 1000));
  for (int turn = 0; turn < turns; turn += 1) printf("%s\"%lld\"", turn == 0 ? "" : ",", (long long)times[turn]);
  printf("]}\n");
  fflush(stdout);
  for (;;) await_turn();
}
