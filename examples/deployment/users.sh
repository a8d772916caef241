#!/bin/sh
# What the broker of compose.yaml needs once it runs: the exchanges; for each password in secrets/, a user
# who may do what a robot has to do; and no guest. Run it again for a new robot or another password.
# COMPOSE names the program, if it is not "docker compose".

set -eu
cd "$(dirname "$0")"

ctl() { ${COMPOSE:-docker compose} exec -T broker rabbitmqctl "$@"; }

# The same as in roles/robot/tasks/users.yml.
configure='^(miros\.|amq\.gen-)[A-Za-z0-9_-]{22}$'
use='^(miros\.(mesh|markers|snoop\.(trace|spy))|(miros\.|amq\.gen-)[A-Za-z0-9_-]{22})$'

ctl await_startup --timeout 120
ctl import_definitions /etc/rabbitmq/miros.json
for password in secrets/*.password; do
    robot=$(basename "$password" .password)
    # The password goes to its standard input: everybody may see command lines.
    ctl add_user "$robot" <"$password" || ctl change_password "$robot" <"$password"
    ctl set_permissions -p / "$robot" "$configure" "$use" "$use"
    ctl set_topic_permissions -p / "$robot" miros.mesh \
        "^(robots\\.$robot|miros\\.listener)\$" '^(robots\.#|miros\.listener)$'
done
ctl delete_user guest || true
