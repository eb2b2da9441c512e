console.log("the tests' script");
