/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of this process: the environment, then ~/.orion/client.conf, then /etc/orion/client.conf. */
#ifndef ORION_CLIENT_SETTINGS_H
#define ORION_CLIENT_SETTINGS_H

/* The text of a setting, by the name of its variable ("ORION_GMEM"), or NULL. A file says `ORION_GMEM = 4096`, or shorter
 * `gmem = 4096`; section headers and comments are skipped, and keys that nobody asks for do nothing. Not for several
 * threads at once. */
const char *orion_setting(const char *name);

/* The files that are asked, the first one first; NULL: none. Called with other paths by tests. */
void orion_settings_read(const char *user_file, const char *system_file);

#endif
