"""In the place of sshd and ssh, for gang_bed.sh: `serve ADDRESS FAKE` runs the command of each connection, `call ADDRESS COMMAND` connects. The
command's input and output are the connection, so they end with the caller, or stall with a cable that is cut. `serve` also stands for the shims
of leases there: once FAKE.draining exists it asks them to let their heads move (daemon/shim/lease.c)."""
import os, select, signal, socket, subprocess, sys, threading

PORT = 22


def be_shim(fake):
    shim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    shim.bind(fake + ".notify")
    shim.settimeout(0.1)
    asked, leashes = set(), set()
    while True:
        try:
            leashes.add(shim.recvfrom(4096)[1])
        except TimeoutError:
            pass
        for leash in leashes - asked if os.path.exists(fake + ".draining") else ():
            asked.add(leash)
            try:
                shim.sendto(b"a new disk", leash)
            except OSError:
                pass


def serve(address, fake):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    threading.Thread(target=be_shim, args=(fake,), daemon=True).start()
    listener = socket.create_server((address, PORT))
    while True:
        connection = listener.accept()[0]
        command = b""
        while not command.endswith(b"\n"):
            command += connection.recv(1) or b"\n"
        subprocess.Popen(["bash", "-c", command], stdin=connection, stdout=connection, start_new_session=True)
        connection.close()


def call(address, command):
    try:
        connection = socket.create_connection((address, PORT), 5)
    except OSError as error:
        sys.exit(f"ssh: connect to host {address} port {PORT}: {error.strerror or 'Connection timed out'}")
    connection.settimeout(None)
    connection.sendall(command.encode() + b"\n")
    sources = [connection, sys.stdin.fileno()]
    while connection in sources:
        for source in select.select(sources, [], [])[0]:
            if source is connection:
                data = connection.recv(65536)
                while data:
                    data = data[os.write(1, data):]
                    if not data:
                        break
                else:
                    sources.remove(connection)
            else:
                data = os.read(source, 65536)
                if data:
                    connection.sendall(data)
                else:
                    connection.shutdown(socket.SHUT_WR)
                    sources.remove(source)


if sys.argv[1] == "serve":
    serve(sys.argv[2], sys.argv[3])
else:
    call(sys.argv[2], sys.argv[3])
