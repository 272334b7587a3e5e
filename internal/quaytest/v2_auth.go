package quaytest

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// serveAuth is GET /v2/auth: section 5.2 of the contract.
func (s *Server) serveAuth(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		writeHTML(w, http.StatusMethodNotAllowed)
		return
	}
	q := r.URL.Query()
	s.mu.Lock()
	access, who, fail := s.authorize(r, q["scope"])
	s.mu.Unlock()
	if fail != nil {
		fail.write(w)
		return
	}
	now := s.now()
	c := claims{
		Issuer: "quay", Audience: q.Get("service"), Subject: who, ID: rand.Text(), Access: access,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(s.opt.TokenLife).Unix(),
	}
	if c.Subject == "" {
		c.Subject = anonymousSubject
	}
	token, err := sign(c)
	if err != nil {
		writeHTML(w, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-cache, no-store, must-revalidate")
	writeJSON(w, http.StatusOK, map[string]any{"token": token})
}

// authorize checks credentials and gives what is granted of scopes.
func (s *Server) authorize(r *http.Request, scopes []string) ([]grant, string, *v2Error) {
	who, fail := s.credentials(r)
	if fail != nil {
		return nil, "", fail
	}
	if who.user == "" && (len(scopes) == 0 || s.opt.NoAnonymousAccess) {
		return nil, "", unauthorizedError("Anonymous access is not allowed")
	}
	access := []grant{}
	for _, text := range scopes {
		sc, fail := s.parseScope(text, r.Host)
		if fail != nil {
			return nil, "", fail
		}
		actions, fail := s.granted(who, sc)
		if fail != nil {
			return nil, "", fail
		}
		access = append(access, grant{"repository", sc.asked, actions})
	}
	return access, who.user, nil
}

// credentials reads Basic: users, robots, "$oauthtoken" and "$app".
func (s *Server) credentials(r *http.Request) (caller, *v2Error) {
	if r.Header.Get("Authorization") == "" {
		return caller{}, nil
	}
	user, password, isBasic := r.BasicAuth()
	if !isBasic {
		return caller{}, unauthorizedError("Invalid authorization header")
	}
	switch {
	case user == "$oauthtoken", user == "$app":
		t := s.oauth(password)
		if t == nil || t.App != (user == "$app") {
			return caller{}, unauthorizedError("Invalid or expired token")
		}
		return caller{user: t.User, oauth: !t.App, scopes: t.Scopes}, nil
	case strings.Contains(user, "+"):
		bot := s.state.Robots[user]
		if bot == nil || bot.Token != password {
			return caller{}, unauthorizedError("Could not find robot with username: " + user + " and supplied password.")
		}
		return caller{user: user}, nil
	}
	return s.logIn(user, password)
}

// logIn checks a user's password, and slows down who guesses.
func (s *Server) logIn(user, password string) (caller, *v2Error) {
	n := s.state.Namespaces[user]
	if n != nil && s.opt.WrongLogins > 0 && n.wrong >= s.opt.WrongLogins {
		e := &v2Error{status: http.StatusTooManyRequests, plain: "Too many login attempts. Please reset your Quay password."}
		e.header = map[string]string{"Retry-After": "30"}
		return caller{}, e
	}
	if n == nil || n.Org || n.Disabled || n.Password == "" || n.Password != password {
		if n != nil {
			n.wrong++
		}
		return caller{}, unauthorizedError("Invalid Username or Password")
	}
	n.wrong = 0
	return caller{user: user}, nil
}

// bearer reads a request's V2 token. No header is an anonymous caller without
// grants.
func (s *Server) bearer(r *http.Request) (claims, *v2Error) {
	v := r.Header.Get("Authorization")
	if v == "" {
		return claims{Subject: anonymousSubject}, nil
	}
	scheme, token, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return claims{}, &v2Error{status: http.StatusUnauthorized, plain: "Invalid bearer token format"}
	}
	c, err := verify(token, r.Host, s.now())
	if err != nil {
		return claims{}, &v2Error{status: http.StatusUnauthorized, plain: "Invalid bearer token"}
	}
	return c, nil
}
