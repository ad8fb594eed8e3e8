"""How a widely copied tutorial on UDP servers sends and receives what does not fit into a datagram:
its two functions, word for word, so that `wire="plain"` is tested against what people really run.

They are no example of how to do it: see what docs/transfer.md says of this format.
"""

# ruff: noqa
# fmt: off
# mypy: ignore-errors


def send_large_data(sock, data, address, chunk_size=1024):
    """Send large data in multiple UDP datagrams."""
    
    # Send number of chunks first
    num_chunks = (len(data) + chunk_size - 1) // chunk_size
    sock.sendto(num_chunks.to_bytes(4, 'big'), address)
    
    # Send chunks
    for i in range(num_chunks):
        start = i * chunk_size
        end = start + chunk_size
        chunk = data[start:end]
        
        # Prefix with chunk number
        header = i.to_bytes(4, 'big')
        sock.sendto(header + chunk, address)

def receive_large_data(sock):
    """Receive large data from multiple UDP datagrams."""
    
    # Receive number of chunks
    data, address = sock.recvfrom(4)
    num_chunks = int.from_bytes(data, 'big')
    
    # Receive chunks
    chunks = {}
    while len(chunks) < num_chunks:
        data, addr = sock.recvfrom(1024 + 4)  # chunk + header
        
        if addr != address:
            continue  # Ignore data from different source
        
        chunk_num = int.from_bytes(data[:4], 'big')
        chunk_data = data[4:]
        chunks[chunk_num] = chunk_data
    
    # Reassemble
    result = b''.join(chunks[i] for i in range(num_chunks))
    return result, address
