package quaytest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// getUser is GET /user/: a token without user:read gets the answer of a bad
// one.
func (c *apiCall) getUser() answer {
	if c.who.user == "" || !c.who.hasScope("user:read", "user:admin") {
		a := c.apiError(http.StatusUnauthorized, "invalid_token", "Requires authentication")
		a.body.(map[string]any)["session_required"] = false
		return a
	}
	return ok(map[string]any{"anonymous": false, "username": c.who.user, "is_me": true, "verified": true})
}

// orgRobots is GET /organization/ORG/robots.
func (c *apiCall) orgRobots() answer {
	if !c.s.administers(c.who.user, c.args[0]) || !c.who.hasScope("org:admin") {
		return c.unauthorized()
	}
	return c.robots(c.args[0])
}

// userRobots is GET /user/robots.
func (c *apiCall) userRobots() answer {
	if c.who.user == "" || !c.who.hasScope("user:admin") {
		return c.unauthorized()
	}
	return c.robots(c.who.user)
}

func (c *apiCall) robots(ns string) answer {
	rows := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(c.s.state.Robots)) {
		if !strings.HasPrefix(name, ns+"+") {
			continue
		}
		repos := []string{}
		for _, r := range c.s.byID {
			if r.Grants[name] != none {
				repos = append(repos, r.Name)
			}
		}
		bot := c.s.state.Robots[name]
		rows = append(rows, map[string]any{
			"name": name, "created": rfc2822(bot.Created), "last_accessed": nil, "teams": []any{}, "repositories": repos, "description": "",
		})
	}
	return ok(map[string]any{"robots": rows})
}
