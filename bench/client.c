// The clients of a round, in one process: opens streams and counts every event that comes on them.
//
//   client PORT PATH STREAMS TURN
//
// An event is the byte '~', which a server sends in nothing else. Whenever TURN more events have come, one byte
// goes to fd 3. At the end of stdin it prints "TOTAL FEWEST MOST" (of all streams, of one stream) and exits.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READY = 1024, ACKNOWLEDGE = 3, QUIET_MS = 50 };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void watch(int epoll, int fd, int id) {
  struct epoll_event event = { .events = EPOLLIN, .data.u32 = (unsigned)id };
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

static int open_stream(int port, const char *request, size_t length) {
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
  if (write(fd, request, length) != (ssize_t)length) fail("write");
  return fd;
}

int main(int count, char **arguments) {
  if (count != 5) return 2;
  int port = atoi(arguments[1]);
  int streams = atoi(arguments[3]);
  long turn = atol(arguments[4]);

  // The soft limit on files is often 1024.
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  char request[1024];
  int length = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n",
                        arguments[2], port);
  int epoll = epoll_create1(0);
  int *fds = calloc((size_t)streams, sizeof *fds);
  long *events = calloc((size_t)streams, sizeof *events);
  for (int id = 0; id < streams; id += 1) {
    fds[id] = open_stream(port, request, (size_t)length);
    watch(epoll, fds[id], id);
  }
  watch(epoll, STDIN_FILENO, streams);

  static char bytes[1 << 16];
  struct epoll_event ready[READY];
  long total = 0;
  long due = turn;
  // After the end of stdin it reads on while anything comes, or an event too many would be missed.
  int ending = 0;
  for (;;) {
    int fresh = epoll_wait(epoll, ready, READY, ending ? QUIET_MS : -1);
    if (fresh == 0) break;
    for (int index = 0; index < fresh; index += 1) {
      int id = (int)ready[index].data.u32;
      int fd = id == streams ? STDIN_FILENO : fds[id];
      ssize_t size = read(fd, bytes, sizeof bytes);
      if (size <= 0) {
        // A stream that ended shows in its count.
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
        if (id == streams) ending = 1;
        continue;
      }
      if (id == streams) continue;
      long found = 0;
      for (ssize_t at = 0; at < size; at += 1) found += bytes[at] == '~';
      events[id] += found;
      total += found;
    }
    for (; total >= due && !ending; due += turn) {
      if (write(ACKNOWLEDGE, "", 1) != 1) fail("acknowledge");
    }
  }

  long fewest = events[0];
  long most = events[0];
  for (int id = 1; id < streams; id += 1) {
    if (events[id] < fewest) fewest = events[id];
    if (events[id] > most) most = events[id];
  }
  printf("%ld %ld %ld\n", total, fewest, most);
  return 0;
}
