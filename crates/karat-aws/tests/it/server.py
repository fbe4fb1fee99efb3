"""Serves moto on a free port until the standard input ends. Prints the port."""

import sys

from moto.ec2.models.amis import AmiBackend
from moto.server import ThreadedMotoServer

# Moto has no tags of snapshots in CreateImage and answers with a failure of its own. Here it makes
# the image without them; the builder adds what is missing later.
make = AmiBackend.create_image


def create_image(self, instance_id, name, description, tag_specifications):
    known = [s for s in tag_specifications if s["ResourceType"] != "snapshot"]
    return make(self, instance_id, name, description, known)


AmiBackend.create_image = create_image

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
