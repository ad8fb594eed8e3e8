/* The plain blocking loop over TCP: what a C programmer writes first.
 *
 *     plain_tcp receive ADDRESS PORT FILE
 *     plain_tcp send ADDRESS PORT FILE [CONGESTION]
 *
 * One file over one connection; CONGESTION as in tcp(7), TCP_CONGESTION.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 128 << 10 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void copy(int from, int to)
{
    static char data[BUFFER_BYTES];
    ssize_t length;

    while ((length = read(from, data, sizeof data)) > 0)
        for (ssize_t done = 0, part; done < length; done += part)
            if ((part = write(to, data + done, (size_t)(length - done))) < 0)
                die("write");
    if (length < 0)
        die("read");
}

int main(int argc, char **argv)
{
    int is_sender = argc > 1 && !strcmp(argv[1], "send");
    if (argc < 5 || argc > 5 + is_sender || (!is_sender && strcmp(argv[1], "receive"))) {
        fprintf(stderr, "usage: plain_tcp receive ADDRESS PORT FILE\n"
                        "       plain_tcp send ADDRESS PORT FILE [CONGESTION]\n");
        return 2;
    }
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
    const int on = 1;

    if (inet_pton(AF_INET, argv[2], &peer.sin_addr) != 1) {
        fprintf(stderr, "plain_tcp: %s is no IPv4 address\n", argv[2]);
        return 2;
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        die("socket");
    if (is_sender) {
        int file = open(argv[4], O_RDONLY);
        if (file < 0)
            die(argv[4]);
        if (argc == 6 && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, argv[5], strlen(argv[5])))
            die(argv[5]);
        if (connect(fd, (struct sockaddr *)&peer, sizeof peer))
            die("connect");
        copy(file, fd);
        if (close(fd))
            die("close");
        return 0;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        bind(fd, (struct sockaddr *)&peer, sizeof peer) || listen(fd, 1))
        die("listen");
    int connection = accept(fd, NULL, NULL);
    if (connection < 0)
        die("accept");
    int file = open(argv[4], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0)
        die(argv[4]);
    copy(connection, file);
    if (close(file))
        die("close");
    return 0;
}
